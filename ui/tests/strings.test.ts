import { afterEach, expect, test } from "vitest";
import { de } from "../src/strings/de";
import { en, type Key, type Message } from "../src/strings/en";
import { language, moment, number, t } from "../src/strings/index.svelte";
import { isUsableLanguage, mendNavigatorLanguage } from "../src/strings/locale";

afterEach(() => language.choose(null));

const keys = Object.keys(en) as Key[];
const forms = (message: Message) => (typeof message === "string" ? [message] : [message.one, message.other]);
const fillings = (message: Message) => [...new Set(forms(message).flatMap((text) => text.match(/\{\w+\}/g) ?? []))].sort();

test("the German catalogue has every text, none empty, with the same fillings", () => {
	expect(Object.keys(de).sort()).toEqual([...keys].sort());
	for (const key of keys) {
		expect(forms(de[key]).every((text) => text.trim() !== ""), key).toBe(true);
		expect(fillings(de[key]), key).toEqual(fillings(en[key]));
	}
});

test("texts that have a plural are chosen by their count", () => {
	expect(t("write.words", { count: 1 })).toBe("1 word");
	expect(t("write.words", { count: 1200 })).toBe("1,200 words");
});

test("another language changes texts and figures at once, and is remembered", () => {
	language.choose("de");
	expect(t("nav.write")).toBe("Schreiben");
	expect(number(1234.5, 1)).toBe("1.234,5");
	expect(localStorage.getItem("inkling.language")).toBe("de");
	language.choose(null);
	expect(t("nav.write")).toBe("Write");
});

test("the language C, as WebKit reports it under LANG=C, is mended before Intl sees it", () => {
	expect(isUsableLanguage("C")).toBe(false);
	expect(isUsableLanguage("en-GB")).toBe(true);
	const webkit = { language: "C", languages: ["C"] } as unknown as Navigator;
	mendNavigatorLanguage(webkit);
	expect(webkit.language).toBe("en");
	expect(() => new Intl.NumberFormat(webkit.language)).not.toThrow();
	const fine = { language: "de-AT", languages: ["de-AT", "en"] } as unknown as Navigator;
	mendNavigatorLanguage(fine);
	expect(fine.language, "a usable one is left alone").toBe("de-AT");
});

test("a time that cannot be read is shown as it came", () => {
	expect(moment("yesterday-ish")).toBe("yesterday-ish");
});
