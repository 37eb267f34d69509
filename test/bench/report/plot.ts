/** Horizontal bars as an SVG that reads on light and dark pages. */
import { show } from "../statistics.ts"

interface Bar {
  readonly label: string
  readonly value: number
}

const [width, left, right, row, top] = [760, 270, 90, 30, 40]

export const bars = (title: string, items: ReadonlyArray<Bar>): string => {
  const most = Math.max(...items.map(({ value }) => value))
  const scale = (value: number) => Math.max(1, (value / most) * (width - left - right))
  const height = top + items.length * row + 10
  const lines = items.flatMap(({ label, value }, at) => {
    const y = top + at * row
    const [length, kind] = [scale(value).toFixed(1), label.startsWith("flowly") ? "own" : "other"]
    return [
      `  <text x="${left - 10}" y="${y + 15}" text-anchor="end">${escape(label)}</text>`,
      `  <rect class="${kind}" x="${left}" y="${y}" width="${length}" height="20" rx="2" />`,
      `  <text x="${left + Number(length) + 8}" y="${y + 15}">${show(value)}</text>`,
    ]
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img">`,
    `  <title>${escape(title)}</title>`,
    "  <style>",
    "    text { font: 14px system-ui, sans-serif; fill: #57606a }",
    "    .own { fill: #2f81f7 } .other { fill: #8c959f }",
    "    @media (prefers-color-scheme: dark) { text { fill: #9ea7b3 } }",
    "  </style>",
    `  <text x="10" y="22" font-weight="600">${escape(title)}</text>`,
    ...lines,
    "</svg>",
    "",
  ].join("\n")
}

const escape = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
