// Auto-train in a real window: from an empty screen to examples that were read, dropped and cancelled.
// Run by `make test` under Xvfb, or alone:
//   xvfb-run -a -s "-screen 0 1366x900x24" dbus-run-session -- node --test tests/e2e/auto_train.test.mjs

import assert from "node:assert/strict";
import { journey } from "./journey.mjs";

const state = (inkling) => inkling.driver.run("() => document.querySelector('[data-testid=auto-session]')?.dataset.state ?? null");
const rows = (inkling) => inkling.driver.run("() => document.querySelectorAll('section[aria-labelledby=auto-rows] li').length");

journey("the app writes examples for itself", (step) => {
	step("the screen says what will be here", async (inkling) => {
		await inkling.open();
		await inkling.call("update_settings", { candidates: 2 });
		await inkling.go("Teach");
		await inkling.press("tab", "Auto-train");
		await inkling.until("the empty screen", async () => (await inkling.text()).includes("No examples yet"));
	});

	step("a few examples of two genres are written, each with its outcome, and charts sum them up", async (inkling, context) => {
		await inkling.fill("How many (1 to 500)", "4");
		await inkling.press("button", "fantasy");
		await inkling.press("button", "sci-fi");
		const started = Date.now();
		await inkling.press("button", "Start writing");
		await inkling.until("the session to end", async () => (await state(inkling)) === "completed", 60_000);
		context.diagnostic(`four examples from two candidates each in ${Date.now() - started} ms`);
		await inkling.until("all lines", async () => (await rows(inkling)) === 4);
		await inkling.until("the charts", async () => /Kept examples by genre[\s\S]*Texts by quality/.test(await inkling.text()));
		const [session] = await inkling.call("auto_trains", { limit: 1 });
		assert.equal(session.successful + session.failed, 4);
		const { items } = await inkling.call("generations");
		assert.equal(items.length, 0, "nothing of it stands among the person's own stories");
		await inkling.screenshot("auto-train");
	});

	step("an example is dropped and taken back, and the count follows", async (inkling) => {
		const [session] = await inkling.call("auto_trains", { limit: 1 });
		const before = await inkling.call("training_stats", { user_id: "me" });
		assert.equal(before.training_examples, session.successful);
		if (session.successful === 0) return;
		await inkling.driver.run("() => document.querySelector('section[aria-labelledby=auto-rows] details').open = true");
		const kept = async () => (await inkling.call("training_stats", { user_id: "me" })).training_examples;
		await inkling.press("button", "Drop");
		await inkling.until("one example less", async () => (await kept()) === session.successful - 1);
		await inkling.press("button", "Take back");
		await inkling.until("it is back", async () => (await kept()) === session.successful);
	});

	step("a cancelled session keeps what it made", async (inkling) => {
		await inkling.fill("How many (1 to 500)", "500");
		await inkling.press("button", "Start writing");
		await inkling.until("some lines", async () => (await state(inkling)) === "running" && (await rows(inkling)) >= 1, 60_000);
		await inkling.press("button", "Cancel");
		await inkling.until("the end", async () => (await state(inkling)) === "cancelled", 20_000);
		const [session] = await inkling.call("auto_trains", { limit: 1 });
		assert.ok(session.current >= 1 && session.current < 500, `${session.current} were tried`);
		await inkling.close();
	});
});
