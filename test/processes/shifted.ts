/**
 * Loaded before a worker process: its clocks are wrong. `Date`, `performance` and `process.hrtime`
 * are off by FLOWLY_SHIFT_MS; with FLOWLY_SWING, `Date` jumps to and fro between + and − that.
 */
const shift = Number(process.env["FLOWLY_SHIFT_MS"])
const swings = process.env["FLOWLY_SWING"] === "1"

const RealDate = Date
const realNow = Date.now.bind(Date)
const performanceNow = performance.now.bind(performance)
const realHrtime = process.hrtime.bind(process)
const realBigint = process.hrtime.bigint.bind(process.hrtime)

const now = () => {
  const real = realNow()
  return real + (swings && Math.floor(performanceNow() / 250) % 2 === 1 ? -shift : shift)
}

const ShiftedDate = new Proxy(RealDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget) as Date,
  apply: () => new RealDate(now()).toString(),
  get: (target, key) => (key === "now" ? now : (Reflect.get(target, key) as unknown)),
})
RealDate.prototype.constructor = ShiftedDate
globalThis.Date = ShiftedDate

if (!swings) {
  Object.defineProperty(performance, "now", { value: () => performanceNow() + shift })
  const seconds = Math.trunc(shift / 1000)
  const hrtime = (time?: [number, number]): [number, number] => {
    const [s, ns] = realHrtime(time)
    return time === undefined ? [s + seconds, ns] : [s, ns]
  }
  process.hrtime = Object.assign(hrtime, {
    bigint: () => realBigint() + BigInt(shift) * 1_000_000n,
  })
}
