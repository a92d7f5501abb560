import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "..", "src");
const files = readdirSync(root, { recursive: true, encoding: "utf8" })
	.filter((name) => /\.(ts|svelte|css)$/.test(name))
	.map((name) => ({ name, text: readFileSync(join(root, name), "utf8") }));

test("no markup carries what the content security policy refuses", () => {
	for (const { name, text } of files.filter((file) => file.name.endsWith(".svelte"))) {
		expect(text, `${name}: style attributes are refused, style:name={…} is not`).not.toMatch(/\sstyle="/);
		expect(text, name).not.toMatch(/\{@html/);
	}
});

test("nothing is loaded from another address", () => {
	for (const { name, text } of files) expect(text.replaceAll("http://www.w3.org", ""), name).not.toMatch(/https?:\/\/(?!localhost)/);
});

test("only the transports know how the backend is reached, and none knows the demo", () => {
	for (const { name, text } of files) {
		if (!name.startsWith("api")) expect(text, name).not.toMatch(/@tauri-apps|\bfetch\(/);
		expect(text, name).not.toMatch(/tests\/|demo/);
	}
});

test("files stay short enough to read, but for the generated one", () => {
	for (const { name, text } of files) if (name !== join("api", "bindings.ts")) expect(text.split("\n").length, name).toBeLessThan(600);
});

test("words are in the catalogue and not in the markup", () => {
	for (const { name, text } of files.filter((file) => file.name.endsWith(".svelte"))) {
		const markup = text.replace(/<script[\s\S]*?<\/script>|<style>[\s\S]*?<\/style>|<!--[\s\S]*?-->/g, "");
		expect(markup.match(/(?:aria-label|placeholder|title)="[A-Za-z][^{"]*"/g) ?? [], name).toEqual([]);
	}
});
