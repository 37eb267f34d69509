/** AES-256-GCM, as an application writes it. */
import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto"
import type { PayloadCodec } from "../../src/index.ts"

const nonceBytes = 12
const tagBytes = 16

/** A codec with a key of its own for each secret. */
export const aes = (name: string, secret = name): PayloadCodec => {
  const key = createHash("sha256").update(secret).digest()
  return {
    name,
    encode: (bytes) => {
      const nonce = randomBytes(nonceBytes)
      const cipher = createCipheriv("aes-256-gcm", key, nonce)
      return Buffer.concat([nonce, cipher.update(bytes), cipher.final(), cipher.getAuthTag()])
    },
    decode: (bytes) => {
      const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, nonceBytes))
      decipher.setAuthTag(bytes.subarray(-tagBytes))
      return Buffer.concat([
        decipher.update(bytes.subarray(nonceBytes, -tagBytes)),
        decipher.final(),
      ])
    },
  }
}
