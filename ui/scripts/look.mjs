/**
 * Pictures of every view, light and dark, at two sizes, from the demo build, under the production content security
 * policy. Needs Chromium and playwright-core, which are not dependencies of the project:
 *
 *     npx vite build --mode demo
 *     PLAYWRIGHT=/tmp/look/node_modules/playwright-core/index.mjs node scripts/look.mjs /tmp/look/out
 *
 * Ends with an error when the page reports one, breaks the policy, or scrolls sideways.
 */
import { createReadStream, existsSync, mkdirSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const { chromium } = await import(process.env.PLAYWRIGHT ? pathToFileURL(process.env.PLAYWRIGHT).href : "playwright-core");
const root = fileURLToPath(new URL("../node_modules/.demo", import.meta.url));
const out = process.argv[2] ?? "look";
const only = process.argv[3];
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".woff2": "font/woff2", ".svg": "image/svg+xml" };
const POLICY = "default-src 'self'; connect-src 'self' ipc: http://ipc.localhost; img-src 'self' data:; style-src 'self'; object-src 'none'";

const server = createServer((request, response) => {
	const path = new URL(request.url, "http://x").pathname;
	const file = join(root, path === "/" ? "index.html" : path);
	if (!existsSync(file)) return response.writeHead(404).end();
	response.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream", "Content-Security-Policy": POLICY });
	createReadStream(file).pipe(response);
}).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const address = `http://127.0.0.1:${server.address().port}/`;

const name = (page, role, text) => page.getByRole(role, { name: text, exact: true });
const PICTURES = {
	"write-empty": async (page) => void page,
	"write-growing": async (page) => {
		await page.getByRole("textbox", { name: "Prompt" }).fill("A young wizard discovers an ancient spellbook");
		await name(page, "slider", "Fantasy").fill("70");
		await name(page, "slider", "Mystery").fill("30");
		await name(page, "button", "Write").click();
		await page.waitForTimeout(900);
	},
	"write-done": async (page) => {
		await PICTURES["write-growing"](page);
		await page.waitForSelector('[data-state="done"]');
		await page.getByText("How quality was counted").click();
	},
	"write-weights": async (page) => {
		await PICTURES["write-growing"](page);
		await page.waitForSelector('[data-state="done"]');
		await page.getByText("How the vote is weighed").click();
		await page.getByText("How the vote is weighed").scrollIntoViewIfNeeded();
	},
	"write-thumb": async (page) => {
		await PICTURES["write-growing"](page);
		await page.waitForSelector('[data-state="done"]');
		await page.keyboard.press("Alt+ArrowUp");
		await name(page, "button", "funny").click();
	},
	"write-edit": async (page) => {
		await PICTURES["write-growing"](page);
		await page.waitForSelector('[data-state="done"]');
		await name(page, "button", "Edit").click();
	},
	"write-history": async (page) => {
		await name(page, "button", "History").click();
		await page.getByText("The spellbook lay under").first().click();
		await page.getByRole("button", { name: /^Delete/ }).nth(1).click();
	},
	"write-more": async (page) => {
		await name(page, "button", "More").click();
		await page.getByRole("combobox", { name: "Adapter" }).selectOption({ index: 2 });
		await page.getByRole("textbox", { name: "Seed" }).scrollIntoViewIfNeeded();
	},
	"write-fault": async (page) => {
		await page.goto(`${address}?fault`);
		await page.getByRole("textbox", { name: "Prompt" }).fill("A young wizard");
		await name(page, "button", "Write").click();
		await page.waitForTimeout(300);
	},
	"teach-empty": async (page) => {
		await page.goto(`${address}?empty#/teach`);
		await page.waitForTimeout(500);
	},
	"teach-train": async (page) => {
		await name(page, "link", "Teach").click();
		await page.waitForTimeout(700);
	},
	"teach-running": async (page) => {
		await name(page, "link", "Teach").click();
		await name(page, "button", "Change").click();
		await page.waitForTimeout(400);
		await name(page, "button", "Train").click();
		await page.waitForTimeout(6000);
		await page.mouse.move(700, 250);
		await page.waitForTimeout(200);
	},
	"teach-blind": async (page) => {
		await name(page, "link", "Teach").click();
		await name(page, "button", "Compare blind").click();
		await name(page, "button", "The first").click();
		await name(page, "button", "The second").scrollIntoViewIfNeeded();
	},
	"teach-blind-done": async (page) => {
		await PICTURES["teach-blind"](page);
		for (const answer of ["The second", "The first", "Neither is better", "The first"]) await name(page, "button", answer).click();
		await page.getByText("Which was which").click();
		await page.getByText("Earlier versions").click();
	},
	"teach-history": async (page) => {
		await name(page, "link", "Teach").click();
		await name(page, "tab", "History").click();
	},
	"teach-detail": async (page) => {
		await PICTURES["teach-history"](page);
		await page.locator("tbody a").first().click();
		await page.waitForTimeout(500);
		await page.getByText("Show as a table").click();
	},
	"teach-compare": async (page) => {
		await name(page, "link", "Teach").click();
		await name(page, "tab", "Compare").click();
		for (const index of [0, 1, 3]) await page.getByRole("checkbox").nth(index).check();
		await page.waitForTimeout(500);
	},
	"auto-empty": async (page) => {
		await page.goto(`${address}?empty#/teach/auto`);
		await page.waitForTimeout(500);
	},
	"auto-running": async (page) => {
		await name(page, "link", "Teach").click();
		await name(page, "tab", "Auto-train").click();
		for (const genre of ["fantasy", "sci-fi"]) await name(page, "button", genre).click();
		await name(page, "button", "Start writing").click();
		await page.waitForTimeout(3500);
	},
	"auto-done": async (page) => {
		await name(page, "link", "Teach").click();
		await name(page, "tab", "Auto-train").click();
		await page.waitForTimeout(500);
		await page.locator("summary").filter({ hasText: "Mars" }).first().click();
	},
	library: async (page) => name(page, "link", "Library").click(),
	"library-models": async (page) => {
		await name(page, "link", "Library").click();
		await page.waitForTimeout(500);
		await page.getByText("More bases").scrollIntoViewIfNeeded();
		await page.getByRole("textbox", { name: "Another model" }).scrollIntoViewIfNeeded();
	},
	"settings-member": async (page) => {
		await name(page, "link", "Settings").click();
		await page.getByRole("searchbox").fill("server");
		await page.waitForTimeout(400);
	},
	"library-export": async (page) => {
		await name(page, "link", "Library").click();
		await name(page, "button", "Export").first().click();
	},
	activity: async (page) => name(page, "link", "Activity").click(),
	settings: async (page) => {
		await name(page, "link", "Settings").click();
		await page.getByRole("textbox", { name: "Candidates" }).fill("99");
		await page.waitForTimeout(600);
	},
	"settings-end": async (page) => {
		await name(page, "link", "Settings").click();
		await page.waitForTimeout(300);
		await page.getByText("SQLite").scrollIntoViewIfNeeded();
	},
};

mkdirSync(out, { recursive: true });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const faults = [];
for (const [colorScheme, width, height] of [
	["light", 1280, 800],
	["dark", 1280, 800],
	["light", 1024, 640],
	["dark", 1024, 640],
]) {
	for (const [picture, prepare] of Object.entries(PICTURES)) {
		if (only && !picture.includes(only)) continue;
		const page = await browser.newPage({ viewport: { width, height }, colorScheme, locale: "en-GB" });
		const label = `${picture}-${colorScheme}-${width}`;
		page.setDefaultTimeout(8000);
		page.on("console", (message) => message.type() === "error" && faults.push(`${label}: ${message.text()}`));
		page.on("pageerror", (error) => faults.push(`${label}: ${error.message}`));
		await page.goto(address);
		await page.waitForSelector('[data-ready="true"]');
		try {
			await prepare(page);
		} catch (error) {
			faults.push(`${label}: ${error.message.split("\n")[0]}`);
		}
		await page.waitForTimeout(150);
		const sideways = await page.evaluate(() => [...document.querySelectorAll("html, .page, .stage, .inside")].filter((node) => node.scrollWidth > node.clientWidth + 1).map((node) => node.className));
		if (sideways.length > 0) faults.push(`${label}: scrolls sideways in ${sideways}`);
		await page.screenshot({ path: join(out, `${label}.png`) });
		await page.close();
	}
}
await browser.close();
server.close();
for (const fault of faults) console.error(fault);
process.exitCode = faults.length > 0 ? 1 : 0;
