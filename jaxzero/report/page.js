"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const NS = "http://www.w3.org/2000/svg";

// An element with attributes, listeners (functions) and children; strings become text, never markup.
function element(make, attributes, children) {
  const node = make();
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter(child => child !== null));
  return node;
}
const h = (tag, attributes = {}, ...children) => element(() => document.createElement(tag), attributes, children);
const s = (tag, attributes = {}, ...children) => element(() => document.createElementNS(NS, tag), attributes, children);
const color = i => `var(--c${i % 6})`;
const signed = x => (x.toFixed(2) > 0 ? "+" : "") + (+x.toFixed(2) || 0).toFixed(2);
const percent = x => `${(100 * x).toFixed(1)} %`;

function number(x) {
  const size = Math.abs(x);
  if (size >= 1e6) return `${+(x / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(x / 1e3).toPrecision(3)}k`;
  if (size > 0 && size < 1e-3) return x.toExponential(1);
  return String(+x.toPrecision(4));
}

// About `most` round numbers from low to high.
function ticks(low, high, most) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map(x => x * power).find(x => x >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
  return found;
}

// A line chart from x = 0 to `last` at least, drawn anew for its width. `lines`: name, x, y and perhaps raw (y is its
// moving average), low and high (the ends of an interval), flat (a level, dashed); `at()`: where the cursor rests;
// `pick(x)`: is told where the chart was clicked.
function chart({title, lines, percent: shares, range, last, label, height = 200, at, pick}) {
  const legend = h("div", {class: "legend"}), place = h("div");
  const box = h("div", {class: "card"}, h("h3", {}, title), legend, place);
  const show = shares ? percent : number;
  const xs = lines.flatMap(line => line.x);
  const ys = lines.flatMap(line => [line.y, line.raw, line.low, line.high].flatMap(some => some || []));
  let [low, high] = range || (shares ? [0, 1] : [Math.min(0, ...ys), Math.max(...ys)]);
  if (high <= low) high = low + 1;
  const left = 0, right = Math.max(last || 0, ...xs, 1);
  let cursor = null;

  function tell(x) {
    const entries = lines.map((line, i) => {
      const at = x === null ? line.x.length - 1 : nearest(line.x, x);
      return h("span", {}, h("i", {style: `background:${color(i)}`}), `${line.name} `, h("b", {}, show(line.y[at])));
    });
    const where = x === null ? [] : [h("span", {}, `${label} ${number(x)}`)];
    legend.replaceChildren(...entries, ...where);
  }

  function draw() {
    const width = place.clientWidth, margin = {left: 44, right: 10, top: 8, bottom: 22};
    if (!width) return;
    const X = x => margin.left + (x - left) / (right - left) * (width - margin.left - margin.right);
    const Y = y => height - margin.bottom - (y - low) / (high - low) * (height - margin.top - margin.bottom);
    const path = (x, y) => "M" + x.map((value, i) => `${X(value).toFixed(1)} ${Y(y[i]).toFixed(1)}`).join("L");
    const picture = s("svg", {viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title});
    for (const y of ticks(low, high, 4)) picture.append(
      s("path", {class: y === 0 && low < 0 ? "zero" : "grid", d: `M${margin.left} ${Y(y)}H${width - margin.right}`}),
      s("text", {x: margin.left - 6, y: Y(y) + 4, "text-anchor": "end"}, shares ? `${Math.round(100 * y)} %` : number(y)));
    for (const x of ticks(left, right, Math.max(2, Math.floor(width / 65)))) picture.append(
      s("text", {x: X(x), y: height - 6, "text-anchor": "middle"}, number(x)));
    lines.forEach((line, i) => {
      if (line.raw) picture.append(s("path", {d: path(line.x, line.raw), fill: "none", stroke: color(i), opacity: 0.25}));
      picture.append(s("path", {d: path(line.x, line.y), fill: "none", stroke: color(i), "stroke-width": 2,
        "stroke-linejoin": "round", "stroke-dasharray": line.flat ? "5 4" : null}));
      if (line.low) line.x.forEach((x, j) => picture.append(s("path", {d: `M${X(x)} ${Y(line.low[j])}V${Y(line.high[j])}`, stroke: color(i), opacity: 0.6})));
      if (line.x.length < 30 && !line.flat) line.x.forEach((x, j) => picture.append(s("circle", {cx: X(x), cy: Y(line.y[j]), r: 3, fill: color(i)})));
    });
    cursor = s("path", {class: "cursor", fill: "none"});
    picture.append(cursor);
    const mark = x => cursor.setAttribute("d", x === null ? "" : `M${X(x)} ${margin.top}V${height - margin.bottom}`);
    const pointed = event => {
      const share = (event.clientX - picture.getBoundingClientRect().left - margin.left) / (width - margin.left - margin.right);
      const x = left + Math.min(1, Math.max(0, share)) * (right - left);
      return xs[nearest(xs, x)];
    };
    const rest = () => { const x = at ? at() : null; mark(x); tell(x); };
    picture.addEventListener("pointermove", event => { const x = pointed(event); mark(x); tell(x); });
    picture.addEventListener("pointerleave", rest);
    if (pick) picture.addEventListener("click", event => pick(pointed(event)));
    place.replaceChildren(picture);
    box.rest = rest;
    rest();
  }
  new ResizeObserver(() => requestAnimationFrame(draw)).observe(place);
  return box;
}

function nearest(values, x) {
  let best = 0;
  values.forEach((value, i) => { if (Math.abs(value - x) < Math.abs(values[best] - x)) best = i; });
  return best;
}

const table = (head, rows, kind = null) => h("div", {class: "wide"}, h("table", {class: kind},
  h("thead", {}, h("tr", {}, head.map(cell => h("th", {scope: "col"}, cell)))),
  h("tbody", {}, rows.map(row => row instanceof Node ? row : h("tr", {}, row.map(cell => h("td", {}, cell)))))));

function outcomes({wins, draws, losses, games}) {
  const share = (name, count) => h("span", {style: `width:${100 * count / games}%;background:var(--${name})`});
  return h("div", {class: "bar", role: "img", "aria-label": `${wins} won, ${draws} drawn, ${losses} lost`, title: `${wins} won, ${draws} drawn, ${losses} lost`},
    share("win", wins), share("draw", draws), share("loss", losses));
}

const indented = text => h("span", {class: "soft"}, `\u2003${text}`);

function results() {
  const row = (name, side, interval) => [name, percent(side.score), interval ? `${percent(interval[0])} – ${percent(interval[1])}` : "",
    outcomes(side), `${side.wins}`, `${side.draws}`, `${side.losses}`, `${side.games}`];
  const rows = data.results.flatMap(result => [
    row(`${result.opponent} (iteration ${result.iteration})`, result, result.interval),
    row(indented("moving first"), result.as_first), row(indented("moving second"), result.as_second)]);
  return [h("h2", {}, "Against opponents"),
    table(["opponent", "score", "95 % interval", "won · drawn · lost", "won", "drawn", "lost", "games"], rows)];
}

function elo() {
  const signedWhole = x => (Math.round(x) > 0 ? "+" : "") + (Math.round(x) || 0);
  const whole = x => String(Math.round(x) || 0);
  const rows = data.elo.rows.map(row => [row.player, whole(row.elo), row.interval.map(whole).join(" to "), `${row.games}`, percent(row.score),
    row.gain ? `${signedWhole(row.gain.elo)} (${row.gain.interval.map(signedWhole).join(" to ")})` : ""]);
  return [h("h2", {}, "Elo"), chart({title: "Elo, with 95 % intervals", lines: data.elo.lines, last: data.iterations, label: "iteration", height: 260}),
    table(["player", "Elo", "95 % interval", "games", "score", "gain on the checkpoint before"], rows)];
}

// Sample games

const picture = ids => "data:image/svg+xml," + encodeURIComponent(ids.map(id => data.tags[id]).join("<"));

function viewer(names) {
  let game, ply;
  const image = h("img", {}), text = h("div", {class: "move", "aria-live": "polite"});
  const candidates = h("div"), curve = h("div"), moves = h("div", {class: "moves"});
  const button = (label, name, to) => h("button", {"aria-label": name, title: name, click: () => go(to())}, label);
  const first = button("«", "first position", () => 0), back = button("‹", "one ply back", () => ply - 1);
  const forward = button("›", "one ply on", () => ply + 1), last = button("»", "last position", () => game.plies.length);
  const tabs = names.map((name, i) => h("button", {click: () => open(i)}, name));

  function go(to) {
    ply = Math.min(game.plies.length, Math.max(0, to));
    const now = game.plies[ply], before = game.plies[ply - 1];
    image.src = picture((now || game.last).board);
    image.alt = `position after ${ply} plies`;
    first.disabled = back.disabled = ply === 0;
    forward.disabled = last.disabled = ply === game.plies.length;
    const played = before ? [h("b", {}, `${ply}. ${before.move}`), ` by ${before.by}`, players(before.player)] : ["the first position"];
    const next = now ? `${now.by} plays ${now.move} next` : game.last.text === "the end" ? game.result : game.last.text;
    text.replaceChildren(h("p", {}, played), h("p", {class: "soft"}, next));
    candidates.replaceChildren(now ? considered(now) : "");
    [...moves.children].forEach((node, i) => node.setAttribute("aria-pressed", i + 1 === ply));
    const chosen = moves.children[ply - 1];
    if (chosen) moves.scrollTop = chosen.offsetTop - moves.clientHeight / 2;
    if (curve.firstChild && curve.firstChild.rest) curve.firstChild.rest();
  }

  function open(i) {
    game = data.games[i];
    tabs.forEach((tab, j) => tab.setAttribute("aria-pressed", i === j));
    moves.replaceChildren(...game.plies.map((each, j) => h("button", {click: () => go(j + 1)}, `${j + 1}. ${each.move}`)));
    const values = game.plies.map(each => each.value);
    curve.replaceChildren(chart({
      title: game.range ? "Value for player 1, as the network sees it" : "Value, as the network sees it",
      lines: [{name: "value", x: values.map((_, j) => j), y: values}], range: game.range, label: "ply", height: 150,
      at: () => Math.min(ply, values.length - 1), pick: go,
    }));
    go(0);
  }

  document.addEventListener("keydown", event => {
    const step = {ArrowLeft: ply - 1, ArrowRight: ply + 1, Home: 0, End: game.plies.length}[event.key];
    if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key.startsWith("Arrow") || node.contains(event.target)) { event.preventDefault(); go(step); }
  });
  const node = h("div", {class: "card"}, h("div", {class: "tabs"}, tabs), h("div", {class: "viewer"},
    h("div", {}, h("div", {class: "board"}, image), h("div", {class: "steps"}, first, back, forward, last), text),
    h("div", {}, curve, candidates, moves)));
  open(0);
  return node;
}

const players = player => data.games[0].seats.length > 1 ? `, player ${player + 1}` : "";

function considered(now) {
  const searched = now.candidates.some(candidate => candidate[1] > 0);
  const rows = now.candidates.map(([move, visits, prior, value]) => h("tr", {class: move === now.move ? "played" : null},
    [move, ...(searched ? [`${visits}`] : []), percent(prior), ...(searched ? [visits ? signed(value) : "–"] : [])].map(cell => h("td", {}, cell))));
  return table(["move", ...(searched ? ["visits"] : []), "prior", ...(searched ? ["value for the mover"] : [])], rows);
}

function games() {
  const seats = game => game.seats.length === 1 ? game.seats[0] : game.seats.every(seat => seat === game.seats[0])
    ? "network – itself" : game.seats.join(" – ");
  const names = data.games.map((game, i) => `${i + 1}. ${seats(game)}: ${game.result}`);
  const how = data.simulations ? `${data.simulations} simulations a move` : "raw policy, no search";
  return [h("h2", {}, "Sample games"), h("p", {class: "soft"}, `${how}; arrow keys step through the game.`), viewer(names)];
}

// The page

document.getElementById("page").replaceChildren(...[
  h("h1", {}, data.title), h("p", {class: "soft"}, data.game),
  data.notices.map(notice => h("p", {class: "notice"}, notice)),
  h("dl", {class: "facts"}, data.facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
  data.charts.length ? [h("h2", {}, "Learning curves"), h("div", {class: "charts"}, data.charts.map(each => chart({...each, last: data.iterations, label: "iteration"})))] : [],
  data.elo.rows ? elo() : [],
  data.results.length ? results() : [],
  data.games && data.games.length ? games() : [],
  h("h2", {}, "Settings"),
  data.settings.length ? table(["changed setting", "value", "default"], data.settings, "words") : [],
  h("details", {}, h("summary", {}, "all settings (config.toml)"), h("pre", {}, data.config)),
].flat(2));
