"""How the report of a study looks: one sheet, light and dark, from a telephone to a wall."""

STYLE = """
:root { color-scheme: light dark; --ground: #f6f6f3; --card: #ffffff; --ink: #1b1d21; --soft: #646a73;
  --line: #e4e4df; --faint: #eeeeea; --accent: #2f62c9; --warn: #9a5200; --warn-ground: #fdf2e2;
  --c0: #3b6fd4; --c1: #d67a1f; --c2: #279a72; --c3: #8659c8; --c4: #c8487a; --c5: #1f93ad; --c6: #8c861b;
  --c7: #777d87; }
@media (prefers-color-scheme: dark) { :root { --ground: #131518; --card: #1b1e22; --ink: #e9e9e6; --soft: #9ba1aa;
  --line: #2d3137; --faint: #23272c; --accent: #86aaf5; --warn: #f2b661; --warn-ground: #2c2416;
  --c0: #7ea6f4; --c1: #f0a655; --c2: #5ecba1; --c3: #b997f0; --c4: #ec86ae; --c5: #60c7de; --c6: #c7c15a;
  --c7: #a6adb7; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1160px; padding: 36px 24px 72px; background: var(--ground); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%; }
h1, h2, h3, p, figure, figcaption, ul, dl, dd { margin: 0; padding: 0; }
h1 { font-size: clamp(26px, 5.2vw, 42px); line-height: 1.12; font-weight: 680; letter-spacing: -0.02em;
  overflow-wrap: anywhere; text-wrap: balance; }
h2 { font-size: 18px; font-weight: 650; letter-spacing: -0.005em; }
h3 { font-size: 14px; font-weight: 600; overflow-wrap: anywhere; }
.eyebrow { color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
.lead { margin-top: 8px; max-width: 62ch; color: var(--soft); overflow-wrap: anywhere; }
.lead b { color: var(--ink); font-weight: 600; }
header { display: grid; gap: 20px; margin-bottom: 22px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.tile { padding: 14px 16px; border: 1px solid var(--line); border-radius: 12px; background: var(--card); min-width: 0; }
.tile dt { color: var(--soft); font-size: 13px; }
.tile dd { font-size: 23px; line-height: 1.25; font-weight: 640; letter-spacing: -0.01em; overflow-wrap: anywhere; }
.tile small { display: block; color: var(--soft); font-size: 12.5px; line-height: 1.4; font-weight: 400;
  letter-spacing: 0; margin-top: 2px; }
.tile .bar { height: 6px; margin-top: 8px; }
main { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 18px; }
section { padding: 20px 22px 16px; border: 1px solid var(--line); border-radius: 14px; background: var(--card);
  min-width: 0; display: flex; flex-direction: column; }
section.wide { grid-column: 1 / -1; }
section > p { margin: 4px 0 14px; color: var(--soft); font-size: 14px; max-width: 78ch; overflow-wrap: anywhere; }
section > p b { color: var(--ink); font-weight: 600; }
figure { flex: 1; min-width: 0; }
.none { padding: 26px 0; text-align: center; color: var(--soft); font-size: 14px; }
.frame { display: grid; padding: 0 10px 0 54px; }
.chart { display: block; width: 100%; overflow: visible; } .frame .chart { height: 280px; }
.y-title { margin: 0 0 12px -54px; } .x-title { margin-top: 24px; text-align: right; }
.y-title, .x-title, .tick, .legend, .ends { color: var(--soft); fill: var(--soft); font-size: 12px; }
.step-key { color: var(--accent); } .edge-key, .even-key { color: var(--soft); }
.grid { stroke: var(--faint); } .base { stroke: var(--line); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 0 0 14px; list-style: none; font-size: 13px; }
.legend li { display: flex; align-items: center; gap: 7px; min-width: 0; overflow-wrap: anywhere; }
.key { flex: none; width: 10px; height: 10px; border-radius: 50%; background: currentColor; }
.key.square { border-radius: 3px; } .key.dash { height: 2px; width: 14px; border-radius: 1px; }
circle, rect { fill: currentColor; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); }
.c4 { color: var(--c4); } .c5 { color: var(--c5); } .c6 { color: var(--c6); } .c7 { color: var(--c7); }
.dots circle { fill-opacity: 0.5; } .dots.few circle { fill-opacity: 0.8; } .dots.faint circle { fill-opacity: 0.22; }
.dots circle:hover { fill-opacity: 1; stroke: var(--ink); stroke-width: 1.5; }
.step { stroke: var(--accent); stroke-width: 2.25; stroke-linecap: round; }
.area { fill: var(--accent); fill-opacity: 0.07; }
.edge { stroke: var(--soft); stroke-width: 1.25; stroke-dasharray: 4 4; }
.even { stroke: var(--soft); stroke-width: 1.25; }
.worst { color: var(--warn); } .worst rect { fill-opacity: 0.55; }
.spot { outline: none; cursor: default; } .spot .reach { fill: transparent; }
.spot circle:not(.reach) { stroke: var(--card); stroke-width: 2; }
.spot .mark { color: var(--accent); }
.spot:hover circle:not(.reach), .spot:focus circle:not(.reach) { stroke: var(--ink); }
.spot:focus-visible .reach { stroke: var(--accent); stroke-width: 2; }
.tip { visibility: hidden; fill: var(--ink); font-size: 12.5px; font-weight: 600; pointer-events: none; }
.spot:hover .tip, .spot:focus .tip, .spot.shown .tip { visibility: visible; }
svg:hover .shown .tip, svg:focus-within .shown .tip { visibility: hidden; }
svg .spot.shown:hover .tip, svg .spot.shown:focus .tip { visibility: visible; }
.bar { height: 12px; border-radius: 4px; overflow: hidden; background: var(--faint); }
.bar rect { stroke: var(--card); stroke-width: 0; }
.strip { height: 26px; }
.strip circle { fill-opacity: 0.45; } .strip circle:last-of-type { fill-opacity: 1; stroke: var(--card);
  stroke-width: 1.5; r: 5.5px; }
.rows { display: grid; gap: 14px; }
.row { display: grid; gap: 3px; min-width: 0; }
.row .name { display: flex; justify-content: space-between; gap: 12px; font-size: 14px; }
.row .name span:first-child { font-weight: 600; min-width: 0; overflow-wrap: anywhere; }
.row .name span + span { color: var(--soft); flex: 0 1 auto; text-align: right; }
.ends { display: flex; justify-content: space-between; gap: 8px; margin-top: 10px; }
.rungs { gap: 20px; } .rungs .bar { height: 34px; border-radius: 7px; }
.rungs .name span:first-child { flex: none; }
.families .row { padding-bottom: 6px; } .families .strip { padding: 0 6px; }
.complete, .gain2 { color: var(--accent); } .failed { color: var(--c4); }
.promoted, .gain1 { color: color-mix(in srgb, var(--accent) 55%, var(--card)); }
.gain0 { color: color-mix(in srgb, var(--accent) 28%, var(--card)); }
.paused, .gain3 { color: color-mix(in srgb, var(--c7) 45%, var(--card)); }
.trials { color: var(--accent); } .idle { color: var(--c1); } .lost { color: var(--c4); }
.price .bar { height: 34px; border-radius: 8px; }
.price .legend { justify-content: flex-start; gap: 6px 28px; }
.big { margin: 2px 0 14px; font-size: clamp(20px, 3.4vw, 27px); line-height: 1.22; font-weight: 640;
  letter-spacing: -0.015em; text-wrap: balance; }
.big em { color: var(--accent); font-style: normal; }
.small-multiples { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 250px), 1fr));
  gap: 22px 32px; }
.small-multiples p { margin: 2px 0 10px; color: var(--soft); font-size: 13px; }
.small-multiples .rows { gap: 9px; } .small-multiples .row .name { margin: 0; color: var(--ink); font-size: 13px; }
.small-multiples .row .name span:first-child { font-weight: 450; } .small-multiples .bar { height: 7px; }
details { margin-top: 14px; border-top: 1px solid var(--faint); padding-top: 8px; font-size: 13.5px; }
summary { cursor: pointer; color: var(--soft); width: fit-content; border-radius: 4px; }
summary:hover { color: var(--ink); }
summary:focus-visible, .scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
.scroll { overflow-x: auto; margin-top: 8px; max-height: 440px; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th { position: sticky; top: 0; background: var(--card); color: var(--soft); font-weight: 550; text-align: left; }
th, td { padding: 5px 14px 5px 0; white-space: nowrap; border-bottom: 1px solid var(--faint); vertical-align: top; }
td.number, th.number { text-align: right; }
td.long { white-space: normal; min-width: 240px; overflow-wrap: anywhere; color: var(--soft); }
.warning { padding: 10px 14px; border-radius: 10px; background: var(--warn-ground); color: var(--warn);
  overflow-wrap: anywhere; }
footer { margin-top: 26px; color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
@media (max-width: 760px) { main { grid-template-columns: minmax(0, 1fr); gap: 14px; }
  body { padding: 22px 14px 48px; } section { padding: 16px 14px 12px; border-radius: 12px; }
  .frame { padding: 0 6px 0 46px; } .y-title { margin: 0 0 30px -46px; } .frame .chart { height: 230px; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); } .tile { padding: 11px 12px; }
  .tile dd { font-size: 20px; } .tile:first-child { grid-column: 1 / -1; }
  .row .name { font-size: 13px; } .row .name span + span { max-width: 82%; } }
@media (max-width: 480px) { .thin { display: none; } }
@media print { body { background: none; padding: 0; } section, .tile { break-inside: avoid; }
  details { display: none; } }
"""
