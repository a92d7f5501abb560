import { de } from "./de";
import { en, type Key, type Message } from "./en";
import { isUsableLanguage } from "./locale";

export type Language = "en" | "de";
export const LANGUAGES: { code: Language; name: string }[] = [
	{ code: "en", name: "English" },
	{ code: "de", name: "Deutsch" },
];

const CATALOGUES: Record<Language, Record<Key, Message>> = { en, de };
const STORED = "inkling.language";

class LanguageChoice {
	/** `null` follows the desktop. */
	chosen = $state<Language | null>(stored());

	get current(): Language {
		return this.chosen ?? preferred();
	}

	/** For `Intl`: the person's own region when it is of the language shown. */
	get tag(): string {
		const own = navigator.language;
		return isUsableLanguage(own) && own.toLowerCase().startsWith(this.current) ? own : this.current;
	}

	choose(language: Language | null): void {
		this.chosen = language;
		if (language) localStorage.setItem(STORED, language);
		else localStorage.removeItem(STORED);
	}
}

export const language = new LanguageChoice();

/** The text of a key in the current language, with `{name}` filled in. Reactive. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
	const message: Message = CATALOGUES[language.current][key];
	const text = typeof message === "string" ? message : message[plural(Number(values.count))];
	return text.replace(/\{(\w+)\}/g, (whole, name: string) => {
		const value = values[name];
		return value === undefined ? whole : typeof value === "number" ? number(value) : value;
	});
}

/** A number in the current language; at most `digits` after the point. */
export function number(value: number, digits = 0): string {
	return new Intl.NumberFormat(language.tag, { maximumFractionDigits: digits, minimumFractionDigits: 0 }).format(value);
}

/** Exactly `digits` after the point, for columns of figures. */
export function fixed(value: number, digits: number): string {
	return new Intl.NumberFormat(language.tag, { maximumFractionDigits: digits, minimumFractionDigits: digits }).format(value);
}

/** "Today 14:05" in the language's own manner: the time alone for today, else the date with it. */
export function moment(timestamp: string): string {
	const when = new Date(timestamp);
	if (Number.isNaN(when.getTime())) return timestamp;
	const today = when.toDateString() === new Date().toDateString();
	const sameYear = when.getFullYear() === new Date().getFullYear();
	return new Intl.DateTimeFormat(language.tag, {
		hour: "2-digit",
		minute: "2-digit",
		...(today ? {} : { day: "numeric", month: "short" }),
		...(sameYear ? {} : { year: "numeric" }),
	}).format(when);
}

export function duration(seconds: number): string {
	const whole = Math.max(0, Math.round(seconds));
	if (whole < 60) return t("time.seconds", { count: whole });
	if (whole < 3600) return t("time.minutes", { minutes: Math.floor(whole / 60), seconds: whole % 60 });
	return t("time.hours", { hours: Math.floor(whole / 3600), minutes: Math.floor((whole % 3600) / 60) });
}

/** Megabytes as people read them. */
export function memory(megabytes: number): string {
	return megabytes >= 1000 ? `${number(megabytes / 1024, 1)} GB` : `${number(megabytes)} MB`;
}

function plural(count: number): "one" | "other" {
	return new Intl.PluralRules(language.current).select(count) === "one" ? "one" : "other";
}

function preferred(): Language {
	return navigator.language.toLowerCase().startsWith("de") ? "de" : "en";
}

function stored(): Language | null {
	const value = localStorage.getItem(STORED);
	return LANGUAGES.some(({ code }) => code === value) ? (value as Language) : null;
}
