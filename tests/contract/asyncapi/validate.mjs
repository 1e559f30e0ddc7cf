// Reads an AsyncAPI document and prints what AsyncAPI's own parser finds wrong with it; exits with 1 if anything is.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const [folder, file] = process.argv.slice(2);
const { Parser } = createRequire(`${folder}/`)("@asyncapi/parser");
const { document, diagnostics } = await new Parser().parse(await readFile(file, "utf8"));
const faults = diagnostics.filter(({ severity }) => severity === 0);
for (const { path, message } of faults) console.error(`${path.join(".")}: ${message}`);
process.exit(document && !faults.length ? 0 : 1);
