import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { svelteTesting } from "@testing-library/svelte/vite";
import { defineConfig } from "vitest/config";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/**
 * The window loads `dist/` through Tauri's protocol, `inkling serve` serves it from its root: the base is relative for both.
 * `--mode demo` swaps the transport for a scripted one that lives under `tests/`, so that no production build can contain it.
 */
export default defineConfig(({ mode }) => ({
	plugins: [svelte(), ...(mode === "test" ? [svelteTesting()] : [])],
	base: "./",
	resolve: {
		alias: mode === "demo" ? [{ find: /^(\.\/|.*\/api\/)pick$/, replacement: here("./tests/demo/pick.ts") }] : [],
	},
	server: { port: 5173, strictPort: true },
	build: {
		outDir: mode === "demo" ? "node_modules/.demo" : "dist",
		emptyOutDir: true,
		target: "es2022",
		// The content security policy allows no data: fonts and no inline scripts.
		assetsInlineLimit: 0,
		modulePreload: { polyfill: false },
		reportCompressedSize: false,
	},
	test: {
		environment: "jsdom",
		environmentOptions: { jsdom: { url: "http://localhost:9009/" } },
		globals: true,
		include: ["tests/**/*.test.ts"],
		setupFiles: ["tests/setup.ts"],
		restoreMocks: true,
	},
}));
