import js from "@eslint/js";
import svelte from "eslint-plugin-svelte";
import globals from "globals";
import ts from "typescript-eslint";
import svelteConfig from "./svelte.config.js";

export default ts.config(
	{ ignores: ["dist/", "node_modules/", "src/api/bindings.ts"] },
	js.configs.recommended,
	...ts.configs.strict,
	...svelte.configs.recommended,
	{ languageOptions: { globals: { ...globals.browser, ...globals.node } } },
	{
		files: ["**/*.svelte", "**/*.svelte.ts"],
		languageOptions: { parserOptions: { parser: ts.parser, svelteConfig } },
	},
	{
		rules: {
			// TypeScript knows the names; the rule does not know types.
			"no-undef": "off",
			"@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
			"no-console": "error",
			// What is deleted from is a local record of form fields; what is built with Map and Date is local and not reactive.
			"@typescript-eslint/no-dynamic-delete": "off",
			"svelte/prefer-svelte-reactivity": "off",
			"svelte/no-at-html-tags": "error",
			"svelte/no-navigation-without-resolve": "off",
		},
	},
	{ files: ["scripts/**"], rules: { "no-console": "off" } },
);
