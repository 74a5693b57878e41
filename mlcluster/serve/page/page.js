"use strict";
const model = JSON.parse(document.getElementById("model").textContent);
const at = id => document.getElementById(id);
const MOST_EARLIER = 20;
let shownExample = -1;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/* One field of a column: its control, how a value is written to it and read from it. */
class Field {
  constructor(column, index) {
    this.column = column;
    this.hint = element("small", { id: `hint-${index}` }, this.usual());
    this.control = this.build(index);
    this.control.setAttribute("aria-describedby", this.hint.id);
    this.box = element("div", {}, element("label", { for: this.control.id }, column.name), this.control, this.hint);
    this.control.addEventListener("input", () => { this.mark(null); showCommand(); });
  }

  usual() {
    const { kind, low, high, missing } = this.column, parts = [];
    if (kind === "number") parts.push(low === null ? "a number" : `mostly ${short(low)} to ${short(high)}`);
    if (kind === "category") parts.push(this.column.levels.length ? `${this.column.levels.length} known levels` : "text");
    if (kind === "image") parts.push("a PNG or JPEG");
    if (missing) parts.push("may be empty");
    return parts.join(", ");
  }

  build(index) {
    const { kind, datatype, levels } = this.column, id = `field-${index}`;
    if (kind === "boolean") {
      return element("select", { id }, element("option", { value: "" }, "—"),
        element("option", { value: "true" }, "true"), element("option", { value: "false" }, "false"));
    }
    if (kind === "image") return this.pick(id);
    const control = element("input", { id, autocomplete: "off", spellcheck: "false",
      inputmode: datatype === "BYTES" ? "text" : "decimal" });
    if (levels.length) {
      control.setAttribute("list", `levels-${index}`);
      at("fields").append(element("datalist", { id: `levels-${index}` },
        ...levels.map(level => element("option", { value: String(level) }))));
    }
    return control;
  }

  pick(id) {
    const control = element("input", { id, type: "file", accept: "image/png,image/jpeg" });
    control.addEventListener("change", () => { this.reading = this.load(control.files[0]); });
    return control;
  }

  async load(file) {
    if (!file) return;
    const bytes = new Uint8Array(await file.arrayBuffer());
    this.image = btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
    this.show();
  }

  show() {
    this.box.querySelector("img")?.remove();
    if (this.image) this.box.append(element("img", { class: "seen", alt: `the image of ${this.column.name}`,
      src: `data:image/*;base64,${this.image}` }));
    showCommand();
  }

  write(value) {
    this.mark(null);
    if (this.column.kind === "image") { this.control.value = ""; this.image = value; this.show(); return; }
    this.control.value = value === null || value === undefined ? "" : String(value);
  }

  /* What JSON carries; text that is no number goes as it is, and the server says what is wrong with it. */
  read() {
    if (this.column.kind === "image") return this.image ?? null;
    const text = this.control.value;
    if (text.trim() === "") return this.column.datatype === "BYTES" && text !== "" ? text : null;
    if (this.column.kind === "boolean") return text === "true";
    if (this.column.datatype === "BYTES") return text;
    const number = Number(text);
    return Number.isFinite(number) ? number : text;
  }

  mark(problem) {
    this.control.setAttribute("aria-invalid", problem ? "true" : "false");
    this.hint.className = problem ? "problem" : "";
    this.hint.textContent = problem ?? this.usual();
  }
}

const short = number => Number(number.toPrecision(4)).toString();
const inferUrl = () => new URL(`v2/models/${encodeURIComponent(model.name)}/infer`, location.href);
const body = () => JSON.stringify({ inputs: fields.map(field => ({
  name: field.column.name, shape: [1, 1], datatype: field.column.datatype, data: [field.read()] })) });

function showCommand() {
  const quoted = body().replaceAll("'", "\\u0027");
  const key = at("key-line").hidden ? "" : " -H \"authorization: Bearer $API_KEY\"";
  at("curl").textContent = `curl -s ${inferUrl()} -H 'content-type: application/json'${key} -d '${quoted}'`;
}

async function predict() {
  const button = at("form").querySelector("[type=submit]"), headers = { "content-type": "application/json" };
  if (at("key").value) headers.authorization = `Bearer ${at("key").value}`;
  button.disabled = true;
  at("answer").setAttribute("aria-busy", "true");
  await Promise.all(fields.map(field => field.reading));
  const started = performance.now();
  try {
    const response = await fetch(inferUrl(), { method: "POST", headers, body: body(), signal: AbortSignal.timeout(60000) });
    const text = await response.text(), milliseconds = performance.now() - started;
    if (response.ok) showAnswer(JSON.parse(text), milliseconds); else showProblem(response.status, text);
  } catch (error) {
    showProblem(0, JSON.stringify({ title: "No answer", detail: `The endpoint does not answer (${error.message}).` }));
  } finally {
    button.disabled = false;
    at("answer").removeAttribute("aria-busy");
  }
}

function showAnswer(answer, milliseconds) {
  const outputs = Object.fromEntries(answer.outputs.map(output => [output.name, output.data]));
  const id = answer.parameters.prediction_id, value = (outputs.label ?? outputs.value)[0];
  const shown = typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(6))) : String(value);
  fields.forEach(field => field.mark(null));
  at("version").textContent = answer.model_version;
  const parts = [element("p", { class: "soft" }, model.target), element("p", { class: "value" }, shown)];
  if (outputs.probabilities) parts.push(bars(outputs.probabilities));
  const copy = element("button", { type: "button", class: "plain" }, "Copy id");
  copy.addEventListener("click", () => copyText(copy, id));
  parts.push(element("p", { class: "soft" }, `${milliseconds.toFixed(1)} ms, version ${answer.model_version}, prediction `,
    element("code", { id: "prediction-id" }, id)), element("div", { class: "buttons" }, copy));
  at("answer").replaceChildren(...parts);
  at("answer").scrollIntoView({ block: "nearest" });
  remember(shown, outputs.probabilities, milliseconds, id);
}

function bars(probabilities) {
  const ranked = model.classes.map((name, index) => [name, probabilities[index]]).sort((one, two) => two[1] - one[1]);
  return element("div", { class: "bars" }, ...ranked.slice(0, 20).flatMap(([name, share]) => [
    element("span", {}, String(name)),
    element("meter", { min: 0, max: 1, value: share, "aria-label": `probability of ${name}` }),
    element("span", {}, share.toFixed(4)),
  ]));
}

function remember(shown, probabilities, milliseconds, id) {
  const table = at("history"), cells = [shown, probabilities ? Math.max(...probabilities).toFixed(4) : "—",
    milliseconds.toFixed(1), id];
  if (!table.rows.length) {
    const heads = [model.target, "probability", "ms", "prediction id"].map(text => element("th", { scope: "col" }, text));
    table.append(element("thead", {}, element("tr", {}, ...heads)), element("tbody"));
  }
  const lines = table.tBodies[0];
  lines.prepend(element("tr", {}, ...cells.map(text => element("td", {}, text))));
  while (lines.rows.length > MOST_EARLIER) lines.deleteRow(-1);
  at("earlier").hidden = false;
}

function showProblem(status, text) {
  let problem = { title: `Status ${status}`, detail: text.slice(0, 300) };
  try { problem = { ...problem, ...JSON.parse(text) }; } catch { /* a proxy's own words */ }
  if (status === 401) { at("key-line").hidden = false; at("key").focus(); showCommand(); }
  fields.forEach(field => field.mark(null));
  const field = fields.find(one => one.column.name === problem.field);
  if (field) { field.mark(problem.detail); field.control.focus(); }
  at("answer").replaceChildren(element("p", { class: "value problem" }, problem.title),
    element("p", { class: "problem" }, problem.detail));
}

async function copyText(button, text) {
  const before = button.textContent;
  try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; }
  catch { button.textContent = "Not allowed here"; }
  setTimeout(() => { button.textContent = before; }, 1500);
}

const fields = model.columns.map((column, index) => new Field(column, index));
at("fields").append(...fields.map(field => field.box));
function fill(row) { fields.forEach(field => field.write(row[field.column.name])); showCommand(); }
function nextExample() { shownExample = (shownExample + 1) % model.examples.length; fill(model.examples[shownExample]); }
at("form").addEventListener("submit", event => { event.preventDefault(); predict(); });
at("example").addEventListener("click", nextExample);
at("clear").addEventListener("click", () => { fill({}); fields[0]?.control.focus(); });
at("copy").addEventListener("click", () => copyText(at("copy"), at("curl").textContent));
nextExample();
