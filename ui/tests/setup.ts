import "@testing-library/jest-dom/vitest";
import { vi } from "vitest";

// jsdom draws nothing: what the views ask of a screen is answered plainly.
vi.stubGlobal("matchMedia", (media: string) => ({ matches: false, media, addEventListener: () => undefined, removeEventListener: () => undefined }));
vi.stubGlobal(
	"ResizeObserver",
	class {
		observe = () => undefined;
		unobserve = () => undefined;
		disconnect = () => undefined;
	},
);
Element.prototype.scrollTo = () => undefined;
