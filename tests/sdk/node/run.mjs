// Stock clients against a running market: what a Node buyer relies on.
//
// Run by `cargo xtask test`, which starts the market and names it in the environment. With arguments only the named
// suites run, as in `run.mjs openai_chat`. The last line is `N passed, N failed`.
import { check, run } from "./market.mjs";

const suites = ["openai_chat", "openai_responses", "openai_media", "anthropic", "openrouter", "openrouter_account"];
const named = process.argv.slice(2);
for (const suite of named.length ? named : suites) {
  try {
    await import(`./with_${suite}.mjs`);
  } catch (error) {
    // A suite that cannot even be loaded is one failed check, not a crash of the run.
    check(`the suite ${suite} can be loaded`, () => {
      throw error;
    });
  }
}
process.exit((await run()) ? 1 : 0);
