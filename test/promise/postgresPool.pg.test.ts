import { postgresSuite } from "./postgresBackend.ts"

postgresSuite("pool")
