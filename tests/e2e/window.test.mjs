// The whole loop in a real window: write, thumb, train, write better; then what may go wrong.
// Run by `make test` under Xvfb, or alone:
//   xvfb-run -a -s "-screen 0 1366x900x24" dbus-run-session -- node --test tests/e2e/window.test.mjs

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Inkling, binary, until } from "./inkling.mjs";
import { freshHome, journey } from "./journey.mjs";

const PROMPT = "A young wizard discovers an ancient spellbook";
const OTHER_PROMPTS = ["The lighthouse keeper hears a knock at midnight", "Two sisters build a boat out of doors", "A robot learns to bake bread"];
const ESCAPE = "\uE00C";
const ALT = "\uE00A";
const ARROW_UP = "\uE013";

/** Short texts and a short training: the loop is the same. */
const QUICK = { maxTokens: 96, trainingMinSteps: 40, trainingCheckpointSteps: 5 };

journey("from the first start to a better model", (step) => {
	step("the window opens on an empty folder and says what it is for", async (inkling, context) => {
		const milliseconds = await inkling.open();
		context.diagnostic(`ready ${milliseconds} ms after the driver was started`);
		assert.match(await inkling.text(), /A blank sheet/);
		await inkling.screenshot("first-start");
	});

	step("the first text takes three actions: a prompt, a slider, Write", async (inkling, context) => {
		await inkling.call("update_settings", QUICK);
		await inkling.fill("Prompt", PROMPT);
		await inkling.slide("Fantasy", 70);
		const first = await inkling.write();
		context.diagnostic(`first words on screen after ${first} ms`);
		assert.ok((await inkling.text(".story")).length > 80, "a text stands on the sheet");
	});

	step("text streams in, candidates come as four tabs, the winner is open and says why", async (inkling) => {
		await inkling.call("update_settings", { maxTokens: 500 });
		await inkling.slide("Mystery", 30);
		// Watched from inside the page: a look from here takes longer than many tokens.
		await inkling.driver.run(`() => {
			window.seen = new Set();
			new MutationObserver(() => {
				if (document.querySelector('[data-testid="sheet"][data-state="writing"]')) window.seen.add(document.querySelector(".story")?.textContent.length ?? 0);
			}).observe(document.body, { subtree: true, childList: true, characterData: true });
		}`);
		await inkling.write();
		const lengths = await inkling.driver.run("() => [...window.seen]");
		assert.ok(lengths.length >= 4, `the text was seen growing: ${lengths.join(", ")}`);
		await inkling.call("update_settings", { maxTokens: QUICK.maxTokens });
		const tabs = await inkling.tabs();
		assert.equal(tabs.length, 4, tabs.join(" | "));
		assert.match(tabs[0], /^Chosen/);
		const shown = await inkling.text('[data-testid="sheet"]');
		for (const bar of ["Quality", "On prompt", "Fluency", "Genre"]) assert.match(shown, new RegExp(bar), "why this one");
		await inkling.screenshot("written");
	});

	step("Escape stops a text and keeps what was written", async (inkling) => {
		await inkling.call("update_settings", { maxTokens: 600 });
		await inkling.startWriting();
		await inkling.until("some words", async () => (await inkling.text(".story")).length > 40, 10_000, 20);
		await inkling.driver.press(ESCAPE);
		const started = Date.now();
		await inkling.until("the end of writing", () => inkling.has('[data-testid="sheet"][data-state="done"]'), 10_000, 20);
		assert.ok(Date.now() - started < 5_000, "stopping is quick");
		assert.ok((await inkling.text(".story")).length > 40, "what was there is kept");
		await inkling.call("update_settings", { maxTokens: QUICK.maxTokens });
	});

	step("Continue goes on where the text ended", async (inkling) => {
		await inkling.write(PROMPT);
		const before = await openText(inkling);
		await inkling.press("button", "Continue");
		await inkling.until("the longer text", () => inkling.has('[data-testid="sheet"][data-state="done"] .before'), 60_000);
		const now = await openText(inkling);
		assert.ok(now.startsWith(before.slice(0, 60)), "it begins as before");
		assert.ok(now.length > before.length, "and is longer");
	});

	step("a text is exported where the person says", async (inkling) => {
		await inkling.press("button", "Export");
		await inkling.press("menuitem", "Plain text (.txt)");
		const folder = join(inkling.home, "saved");
		const [name] = await until("the file", () => (readdirSync(folder).length > 0 ? readdirSync(folder) : null));
		assert.match(name, /\.txt$/);
		assert.ok(readFileSync(join(folder, name), "utf8").length > 80);
	});

	step("an edit that is saved is feedback", async (inkling) => {
		await inkling.press("button", "Edit");
		const box = await inkling.until("the editor", () => inkling.find("textbox", "Your version"));
		await inkling.driver.type(box, " The end, she wrote.");
		await inkling.press("button", "Save");
		await inkling.until("the edited text", async () => (await inkling.text(".story")).includes("The end, she wrote."));
	});

	step("thumbs from mouse and keyboard are stored at once and move the taste", async (inkling) => {
		for (const prompt of OTHER_PROMPTS) {
			await inkling.write(prompt);
			const count = (await inkling.tabs()).length;
			for (let index = 0; index < count; index += 1) {
				await inkling.openTab(index);
				const like = index < count - 1;
				if (like && index === 0) await inkling.driver.press(ALT, ARROW_UP);
				else await inkling.press("button", like ? "More like this" : "Less like this");
				await inkling.until("the thumb to be shown as given", () =>
					inkling.driver.run("(like) => document.querySelector(like ? '.thumb.up' : '.thumb.down').getAttribute('aria-pressed') === 'true'", like),
				);
			}
		}
		const card = await inkling.call("taste", {});
		assert.ok(card.liked_texts >= 8, `${card.liked_texts} liked texts`);
		assert.ok(card.summary.thumbs >= 12, `${card.summary.thumbs} thumbs`);
	});

	step("Teach shows what would be trained on and what it would cost", async (inkling) => {
		await inkling.go("Teach");
		await inkling.until("the plan", async () => /texts to learn from/.test(await inkling.text()));
		assert.match(await inkling.text(), /about .* free · you can go on writing/i);
		assert.ok(await inkling.find("button", "Train"), "it can be started");
		await inkling.screenshot("teach-plan");
	});

	step("Train draws a moving chart and ends with a verdict", async (inkling, context) => {
		const seen = await trainToTheEnd(inkling);
		context.diagnostic(`chart points seen while it ran: ${seen.points.join(", ")}; ${seen.seconds} s`);
		assert.ok(seen.points.length >= 3, `the chart moved: ${seen.points.join(", ")}`);
		const shown = await inkling.text();
		assert.match(shown, /Against the current model/);
		assert.match(shown, /% wins/);
		await inkling.screenshot("teach-verdict");
	});

	step("Keep uses what was learned in the next text, without a restart", async (inkling) => {
		await inkling.press("button", "Keep");
		await inkling.until("Undo to be offered", () => inkling.find("button", "Undo"));
		const [active] = await activeAdapters(inkling);
		assert.ok(active, "an adapter is active");
		await inkling.go("Write");
		await inkling.write(PROMPT);
		const members = await membersShown(inkling);
		assert.ok(members.some((member) => member.includes(active.name)), `a candidate was written with it: ${members.join(" | ")}`);
	});

	step("Undo writes the next text without it", async (inkling) => {
		const [active] = await activeAdapters(inkling);
		await inkling.go("Teach");
		await inkling.press("button", "Undo");
		await inkling.until("no adapter to be active", async () => (await activeAdapters(inkling)).length === 0);
		await inkling.go("Write");
		await inkling.write(PROMPT);
		const members = await membersShown(inkling);
		assert.ok(!members.some((member) => member.includes(active.name)), `no candidate was written with it: ${members.join(" | ")}`);
	});

	step("a closed window opens again with everything that was there", async (inkling) => {
		const before = await inkling.call("generations", {});
		await inkling.close();
		await inkling.open();
		const now = await inkling.call("generations", {});
		assert.deepEqual(now.items.map((item) => item.generation_id), before.items.map((item) => item.generation_id));
		assert.equal((await inkling.call("runs", {})).length, 1);
		await inkling.until("the draft", async () => (await inkling.driver.run("() => document.querySelector('textarea')?.value")) === PROMPT);
	});

	step("a training that was killed, then closed, is shown as interrupted both times and resumes to its end", async (inkling) => {
		await inkling.call("update_settings", { trainingMinSteps: 80 });
		await inkling.go("Teach");
		await inkling.press("button", "Train");
		const run = await inkling.until("a checkpoint", async () => (await inkling.call("runs", {})).find((one) => one.status === "running" && one.checkpoint_step > 0), 120_000);
		await inkling.kill();

		await inkling.open();
		await inkling.go("Teach");
		await inkling.until("the interruption to be shown", async () => /Interrupted at step/.test(await inkling.text()));
		await inkling.screenshot("teach-interrupted");
		await inkling.press("button", "Resume");
		await inkling.until("it to run again", async () => (await inkling.call("run", { run_id: run.run_id })).status === "running");
		await inkling.close();

		await inkling.open();
		const closed = await inkling.call("run", { run_id: run.run_id });
		assert.equal(closed.status, "interrupted");
		assert.ok(closed.checkpoint_step >= run.checkpoint_step, "no step that was saved is lost");
		await inkling.go("Teach");
		await inkling.press("button", "Resume");
		const done = await inkling.until("the resumed run to end", async () => ended(await inkling.call("run", { run_id: run.run_id })), 240_000, 300);
		assert.equal(done.status, "completed", done.error?.message);
		const { metrics } = await inkling.call("run_metrics", { run_id: run.run_id });
		assert.deepEqual(metrics.map(({ step }) => step), [...new Set(metrics.map(({ step }) => step))].sort((a, b) => a - b), "each step is there once, in order");
		// Training may end before its last step, when texts kept back stop getting better.
		assert.equal(metrics.at(-1).step, done.step);
		assert.ok(done.step > run.checkpoint_step, "it went on after the kill");
	});

	step("every view fits the smallest window and looks right in light and dark", async (inkling) => {
		const views = ["Write", "Teach", "Library", "Activity", "Settings"];
		for (const theme of ["light", "dark"]) {
			await inkling.call("update_settings", { theme });
			await inkling.until(`${theme} colours`, () => inkling.has(`html[data-theme=${theme}]`));
			await inkling.driver.resize(1366, 900);
			for (const view of views) {
				await inkling.go(view);
				await inkling.screenshot(`${view.toLowerCase()}-${theme}`);
			}
			await inkling.go("Teach");
			await inkling.press("tab", "History");
			await inkling.until("the runs", () => inkling.has("table"));
			await inkling.screenshot(`history-${theme}`);
			await inkling.press("tab", "Compare");
			await inkling.screenshot(`compare-${theme}`);
			await inkling.press("tab", "Train");

			await inkling.driver.resize(1024, 640);
			for (const view of views) {
				await inkling.go(view);
				const { wide, shown } = await inkling.driver.run("() => ({ wide: document.documentElement.scrollWidth, shown: document.documentElement.clientWidth })");
				assert.ok(wide <= shown, `${view} is ${wide} wide in a window of ${shown}`);
				await inkling.screenshot(`${view.toLowerCase()}-small-${theme}`);
			}
		}
	});
});

journey("input that cannot be used", (step) => {
	step("an empty prompt is pointed at, and nothing is written", async (inkling) => {
		await inkling.open();
		await inkling.press("button", "Write");
		await inkling.until("what is missing", async () => /Type a line first/.test(await inkling.text("[role=alert]")));
		assert.equal((await inkling.call("generations", {})).items.length, 0);
	});

	step("sliders that are all at zero are pointed at", async (inkling) => {
		await inkling.fill("Prompt", PROMPT);
		await inkling.press("switch", "Any genre");
		await inkling.press("button", "Write");
		await inkling.until("what is missing", async () => /All sliders are at zero/.test(await inkling.text("[role=alert]")));
		await inkling.screenshot("bad-input");
	});

	step("a training without liked texts says what is missing and cannot be started", async (inkling) => {
		await inkling.go("Teach");
		await inkling.until("the reason", async () => /like/i.test(await inkling.text(".error")));
		assert.equal(await inkling.find("button", "Train"), null, "the button is there and does nothing yet");
	});

	step("the backend refuses the same by code, with a hint", async (inkling) => {
		const refused = (name, input) =>
			inkling.driver.runAsync(
				"(name, input) => window.__TAURI_INTERNALS__.invoke('call', { name, input }).then(() => null, (error) => error)",
				name,
				input,
			);
		for (const [name, input, code] of [
			["write", { prompt: "  " }, "invalid_input"],
			["write", { prompt: "A", genres: { fantasy: 0, mystery: 0 } }, "invalid_input"],
			["write", { prompt: "A", n: 0 }, "invalid_input"],
			["train", { recipe: "soft_prompt" }, "not_ready"],
			["run", { run_id: "run_none" }, "not_found"],
			["no_such_call", {}, "not_found"],
		]) {
			const error = await refused(name, input);
			assert.equal(error?.code, code, `${name} ${JSON.stringify(input)} gave ${JSON.stringify(error)}`);
			assert.ok(error.message.length > 10);
		}
	});
});

journey("a window beside others", (step) => {
	step("a second start brings the first window to the front and ends", async (inkling) => {
		await inkling.open();
		const environment = { ...process.env, INKLING_HOME: join(inkling.home, "data"), XDG_CONFIG_HOME: join(inkling.home, "config") };
		const second = spawn(binary, { env: environment, stdio: "ignore" });
		const code = await new Promise((done) => second.once("exit", done));
		assert.equal(code, 0);
		assert.ok(inkling.pid(), "the first one is still there");
	});

	step("a data folder that another program holds is said in the window", async (inkling) => {
		// Without a session bus the second one cannot find the first; only the folder's lock is left.
		const second = new Inkling(inkling.home, { DBUS_SESSION_BUS_ADDRESS: "disabled:", XDG_CONFIG_HOME: join(inkling.home, "config-2") });
		const first = inkling.pid();
		try {
			await second.open({ ready: false });
			await second.until("who holds the folder", async () => (await second.text()).includes(`process ${first}`), 20_000);
			await second.screenshot("folder-held");
			await inkling.close();
			await second.press("button", "Try again");
			await second.until("the window to be ready after all", () => second.has('[data-ready="true"]'), 20_000);
		} finally {
			await second.abandon();
		}
	});

	step("a SIGTERM, as at the end of a session, closes it properly: its socket is gone", async (inkling) => {
		await inkling.open();
		const socket = join(inkling.home, "data/inkling.sock");
		await until("the socket for the terminal", () => existsSync(socket));
		await inkling.terminate();
		assert.ok(!existsSync(socket));
	});
});

describe("a page that wants out", () => {
	const home = freshHome();
	const inkling = new Inkling(home);
	let heard = 0;
	const canary = createServer((_request, response) => {
		heard += 1;
		response.end("heard");
	});

	before(async () => {
		await new Promise((done) => canary.listen(0, "127.0.0.1", done));
		await inkling.open();
	});
	after(async () => {
		await inkling.abandon();
		canary.close();
		rmSync(home, { recursive: true, force: true });
	});

	it("reaches no server, by request, picture, frame, form, window or navigation", async () => {
		const address = `http://127.0.0.1:${canary.address().port}/`;
		await fetch(address);
		assert.equal(heard, 1, "the server hears what reaches it");
		const tried = await inkling.driver.runAsync(
			`async (address) => {
				const tried = [];
				const attempt = async (what, work) => { try { await work(); tried.push(what); } catch { tried.push(what); } };
				await attempt("fetch", () => fetch(address + "fetch", { mode: "no-cors" }));
				await attempt("socket", () => new WebSocket(address.replace("http", "ws")));
				await attempt("beacon", () => navigator.sendBeacon(address + "beacon", "x"));
				for (const [tag, name] of [["img", "src"], ["script", "src"], ["iframe", "src"], ["video", "src"], ["object", "data"]]) {
					await attempt(tag, () => { const made = document.createElement(tag); made[name] = address + tag; document.body.append(made); });
				}
				await attempt("style", () => { const made = document.createElement("link"); made.rel = "stylesheet"; made.href = address + "style"; document.head.append(made); });
				await attempt("form", () => { const made = document.createElement("form"); made.action = address + "form"; document.body.append(made); made.submit(); });
				await attempt("window", () => window.open(address + "window"));
				await attempt("navigation", () => { location.href = address + "navigation"; });
				return tried;
			}`,
			address,
		);
		assert.equal(tried.length, 12);
		await new Promise((done) => setTimeout(done, 1_500));
		assert.equal(heard, 1, "nothing of the page reached the server");
		assert.ok(await inkling.has("#app"), "the page is still ours");
	});

	it("may call the app's own commands and no plugin's", async () => {
		for (const command of ["plugin:dialog|open", "plugin:window-state|save_window_state", "plugin:event|emit", "plugin:webview|create_webview_window"]) {
			const refusal = await inkling.driver.runAsync("(command) => window.__TAURI_INTERNALS__.invoke(command, {}).then(() => null, String)", command);
			assert.match(refusal ?? "it was allowed", /not allowed/, command);
		}
	});
});

async function trainToTheEnd(inkling) {
	const started = Date.now();
	await inkling.press("button", "Train");
	const points = [];
	await inkling.until(
		"the verdict",
		async () => {
			const count = Number(await inkling.driver.run("() => document.querySelector('[data-testid=loss-chart]')?.dataset.points ?? 0"));
			const [run] = await inkling.call("runs", {});
			if (run?.status === "running" && count > (points.at(-1) ?? 0)) points.push(count);
			assert.notEqual(run?.status, "failed", run?.error?.message);
			return run?.status === "completed" && /% wins/.test(await inkling.text());
		},
		240_000,
		60,
	);
	return { points, seconds: Math.round((Date.now() - started) / 1000) };
}

function ended(run) {
	return ["completed", "failed", "cancelled"].includes(run.status) ? run : null;
}

async function activeAdapters(inkling) {
	return (await inkling.call("adapters", {})).filter((adapter) => adapter.state === "active");
}

/** Who wrote each candidate, as the tabs say. */
function membersShown(inkling) {
	return inkling.driver.run("() => [...document.querySelectorAll('[role=tablist][aria-label=Candidates] [role=tab]')].map((tab) => tab.title)");
}

async function openText(inkling) {
	return (await inkling.text(".story")).replace(/\s+/g, " ").trim();
}
