/**
 * Boot. With `LANG=C.UTF-8` WebKit reports the language "C"; `Intl` then throws while modules load (uPlot builds a
 * formatter at import) and the window stays blank. So the language is mended here, before anything else is imported.
 */
import { mendNavigatorLanguage } from "./strings/locale";

mendNavigatorLanguage();
await import("./start");

export {};
