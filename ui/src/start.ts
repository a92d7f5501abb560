import "@fontsource-variable/inter/wght.css";
import "@fontsource-variable/literata/wght.css";
import "@fontsource-variable/literata/wght-italic.css";
import "uplot/dist/uPlot.min.css";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/controls.css";
import "./styles/layout.css";
import { mount } from "svelte";
import App from "./App.svelte";
import { useTransport } from "./api/client";
import { pickTransport } from "./api/pick";

const target = document.getElementById("app");
if (!target) throw new Error("index.html has no #app");
useTransport(await pickTransport());
mount(App, { target });
