/** Whether `Intl` can work with this language tag; "C" and "POSIX" are not tags. */
export function isUsableLanguage(tag: unknown): tag is string {
	if (typeof tag !== "string" || tag === "") return false;
	try {
		return Intl.getCanonicalLocales(tag).length > 0 && !/^(c|posix)\b/i.test(tag);
	} catch {
		return false;
	}
}

/** Replaces an unusable `navigator.language` by English; a usable one is left alone. */
export function mendNavigatorLanguage(nav: Navigator = navigator): void {
	if (isUsableLanguage(nav.language) && nav.languages?.every(isUsableLanguage)) return;
	const language = isUsableLanguage(nav.language) ? nav.language : "en";
	Object.defineProperty(nav, "language", { get: () => language, configurable: true });
	Object.defineProperty(nav, "languages", { get: () => [language], configurable: true });
}
