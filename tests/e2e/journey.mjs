// A journey: steps of one person in one window.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { Inkling } from "./inkling.mjs";

export function freshHome() {
	return mkdtempSync(join(tmpdir(), "inkling-window-"));
}

/** A person's path; a step that fails ends it, since the next would start from nowhere. */
export function journey(name, steps) {
	describe(name, { concurrency: false }, () => {
		const home = freshHome();
		const inkling = new Inkling(home);
		let broken = false;
		after(async () => {
			await inkling.abandon();
			rmSync(home, { recursive: true, force: true });
		});
		steps((step, work) =>
			it(step, { timeout: 300_000 }, async (context) => {
				if (broken) return context.skip("an earlier step failed");
				broken = true;
				await work(inkling, context);
				broken = false;
			}),
		);
	});
}
