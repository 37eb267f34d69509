import { postgresSuite } from "./postgresBackend.ts"

postgresSuite("url")
