// The pictures of README.md, taken from the real window: `make screenshots`.
// A reader who likes talk gives the thumbs, so that there is a taste to find and something to train on.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Inkling, root } from "./inkling.mjs";

const PICTURES = join(root, "assets/screenshots");
const PROMPT = "A young wizard discovers an ancient spellbook";
const PROMPTS = [
	"The lighthouse keeper hears a knock at midnight",
	"Two sisters build a boat out of doors",
	"A robot learns to bake bread",
	"The last train leaves without its driver",
	"A letter arrives forty years late",
	"The fox who could not lie",
	"A map that changes every morning",
	"Grandmother keeps a storm in a jar",
];
const SPOKEN_LINES = 3;

const home = mkdtempSync(join(tmpdir(), "inkling-pictures-"));
const inkling = new Inkling(home);
try {
	mkdirSync(PICTURES, { recursive: true });
	await inkling.open();
	await inkling.call("update_settings", { theme: "light" });
	await inkling.driver.resize(1366, 880);
	for (const prompt of PROMPTS) await giveThumbs(prompt);

	await inkling.fill("Prompt", PROMPT);
	await inkling.slide("Fantasy", 70);
	await inkling.slide("Mystery", 30);
	await inkling.write();
	await picture("write");

	await inkling.go("Teach");
	await inkling.press("button", "Train");
	await inkling.until("the verdict", async () => /% wins/.test(await inkling.text()), 600_000, 500);
	await inkling.until("the plan of the next training", () => inkling.find("button", "Train"));
	await inkling.until("messages to be gone", async () => !/Training started/.test(await inkling.text()), 20_000, 500);
	await picture("teach");
} finally {
	await inkling.abandon();
	rmSync(home, { recursive: true, force: true });
}

async function giveThumbs(prompt) {
	const { candidates } = await inkling.call("write", { prompt });
	for (const { id, text } of candidates) {
		const spoken = (text.match(/["“]/g) ?? []).length / 2;
		await inkling.call("feedback", { candidate_id: id, verdict: spoken >= SPOKEN_LINES ? 1 : -1 });
	}
}

async function picture(name) {
	// Without the focus ring of the control that was pressed last.
	await inkling.driver.run("() => document.activeElement?.blur()");
	const path = join(PICTURES, `${name}.png`);
	writeFileSync(path, await inkling.driver.screenshot());
	console.log(path);
}
