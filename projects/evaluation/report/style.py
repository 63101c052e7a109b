"""The look of the page: for a light or a dark screen, a phone, and paper."""

STYLE = """
:root { --ink: #1f2933; --muted: #5b6773; --line: #dfe5ec; --page: #f5f7fa; --card: #ffffff; --accent: #2d6cc0;
  --track: #e4eaf1; --dense: #ffffff; --good: #1f7a55; --bad: #b4510f;
  --s0: #2d6cc0; --s1: #d1661e; --s2: #2a8c6a; --s3: #b0518f; --s4: #5aa9dd; --s5: #c79a1b; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e6ebf0; --muted: #9ba8b5; --line: #2e3945; --page: #12171d; --card: #1b222a; --accent: #6aa5ec;
    --track: #2c3743; --dense: #0e1319; --good: #5cc49c; --bad: #f0955a;
    --s0: #6aa5ec; --s1: #f0955a; --s2: #5cc49c; --s3: #d98abf; --s4: #8ccaf2; --s5: #e3bf55; }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0 auto; padding: 0 1.25rem 3rem; max-width: 72rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header { padding: 2.75rem 0 1rem; }
.kind { margin: 0; color: var(--accent); font-weight: 600; font-size: .85rem; letter-spacing: .06em;
  text-transform: uppercase; }
h1 { margin: .2rem 0 .3rem; font-size: clamp(1.5rem, 4vw, 2.3rem); line-height: 1.2; overflow-wrap: anywhere; }
.lead { margin: 0; color: var(--muted); }
nav { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; padding: .7rem 0;
  background: var(--page); border-bottom: 1px solid var(--line); font-size: .9rem; }
nav a { color: var(--muted); text-decoration: none; }
nav a:hover, nav a:focus { color: var(--accent); }
section { margin: 1.5rem 0; padding: 1.4rem 1.5rem 1.5rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; scroll-margin-top: 3.5rem; }
h2 { margin: 0 0 1rem; font-size: 1.2rem; }
h3 { margin: 1.4rem 0 .6rem; font-size: .98rem; font-weight: 600; overflow-wrap: anywhere; }
h2 + h3, .panels h3, .pair h3, .sample h3 { margin-top: 0; }
code { font: .88em/1.4 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; color: var(--muted);
  overflow-wrap: anywhere; }
.answer { max-width: 54rem; margin: 0 0 1.1rem; font-size: 1.18rem; line-height: 1.5; }
.answer b { font-weight: 650; }
.doubt { max-width: 54rem; margin: -.5rem 0 0; color: var(--muted); }
.intro { margin: 0 0 .9rem; color: var(--muted); font-size: .92rem; }
.good { color: var(--good); }
.bad { color: var(--bad); }
.answer + .tiles { margin-top: 1.2rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem; }
.tile { display: flex; flex-direction: column; padding: .9rem 1rem; border: 1px solid var(--line);
  border-radius: 10px; }
.tile.main { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
.tile .label { color: var(--muted); font-size: .87rem; }
.tile .value { font-size: 1.9rem; font-weight: 650; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile .hint { color: var(--muted); font-size: .78rem; line-height: 1.35; }
.note, figcaption { color: var(--muted); font-size: .88rem; }
.note { margin: .8rem 0 0; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .94rem; }
th, td { padding: .48rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { color: var(--muted); font-weight: 500; font-size: .84rem; }
tbody tr:last-child > * { border-bottom: 0; }
th:first-child { text-align: left; padding-left: 0; font-weight: 550; }
thead th:first-child { font-weight: 500; }
td:last-child, th:last-child { padding-right: 0; }
.bar { width: 42%; min-width: 11rem; text-align: left; }
.track { display: inline-block; width: calc(100% - 4.6rem); height: .7rem; margin-right: .6rem; overflow: hidden;
  background: var(--track); border-radius: 4px; vertical-align: middle; }
.track span { display: block; height: 100%; background: var(--accent); border-radius: 4px; }
.number { display: inline-block; width: 3.9rem; text-align: right; }
.swatch { display: inline-block; width: .85rem; height: .85rem; margin-right: .55rem; vertical-align: -.08rem;
  border-radius: 3px; box-shadow: inset 0 0 0 1px rgba(0, 0, 0, .25); }
.none { color: var(--muted); }
.wide { width: 50%; min-width: 12rem; text-align: left; }
.stack { display: flex; height: 1rem; overflow: hidden; border-radius: 4px; background: var(--track); }
.keys { margin: .9rem 0 0; font-size: .88rem; }
.key { display: inline-block; margin-right: 1.1rem; }
.keys.first { margin: 0 0 1rem; }
.line { display: inline-block; width: 1.3rem; margin-right: .5rem; border-top: 3px solid; vertical-align: .25em; }
.d1 { border-top-style: dashed; } .d2 { border-top-style: dotted; }
.s0 { border-color: var(--s0); } .s1 { border-color: var(--s1); } .s2 { border-color: var(--s2); }
.s3 { border-color: var(--s3); } .s4 { border-color: var(--s4); } .s5 { border-color: var(--s5); }
.sub { color: var(--muted); font-size: .8rem; font-weight: 400; }
small { color: var(--muted); font-size: .82rem; }
.stages td, .stages th { vertical-align: top; }
.stages tbody th { white-space: normal; overflow-wrap: anywhere; min-width: 11rem; }
.score { font-weight: 550; }
.best .score { padding: .08rem .4rem; margin-right: -.4rem; border-radius: 5px; background: var(--accent);
  color: var(--dense); font-weight: 650; }
.note .best .score { margin: 0; }
.stages td:last-child, .stages th:last-child { padding-right: .5rem; }
.both { position: relative; }
.both::after { content: ""; position: absolute; left: 50%; top: 0; bottom: 0; width: 1px; background: var(--muted); }
.track .gain { background: var(--good); border-radius: 0 4px 4px 0; }
.track .loss { background: var(--bad); border-radius: 4px 0 0 4px; }
.words { text-align: left; white-space: normal; }
.configs th, .configs td { white-space: normal; vertical-align: top; }
.configs tbody th { width: 45%; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); gap: 1.2rem 1.6rem; }
.matrix { width: auto; font-size: .86rem; }
.main > .scroll > .matrix { width: 100%; }
.matrix th, .matrix td { padding: .5rem .4rem; border: 0; }
.matrix td { min-width: 3.4rem; text-align: center; border: 2px solid var(--card); border-radius: 6px; }
.matrix thead th { white-space: normal; text-align: center; vertical-align: bottom; line-height: 1.2;
  font-size: .78rem; }
.matrix thead th.corner { text-align: left; font-size: .74rem; white-space: nowrap; }
.matrices thead th:not(.corner) span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; }
.matrices .matrix td { min-width: 2.9rem; padding: .5rem .2rem; }
.matrices .matrix thead th.corner { white-space: normal; }
.matrix tbody th { padding-left: 0; padding-right: .7rem; font-size: .84rem; }
.many thead th:not(.corner) span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; }
.matrix.many { font-size: .7rem; }
.matrix.many td { min-width: 1.75rem; padding: .3rem 0; border-width: 1px; border-radius: 3px; }
.matrix.many th { padding: .2rem .3rem .2rem 0; font-size: .74rem; }
.matrix .own { font-weight: 650; }
.confusion td { background: color-mix(in srgb, var(--accent) var(--s, 0%), var(--page)); }
.confusion .dense { color: var(--dense); }
.delta td { background: color-mix(in srgb, var(--tone, var(--page)) var(--d, 0%), var(--page)); }
.pair.matrices { margin-top: 1.6rem; grid-template-columns: repeat(auto-fit, minmax(min(27rem, 100%), 1fr)); }
.chain { margin: 0; padding: 0; list-style: none; }
.chain li { position: relative; padding: 0 0 1rem 2rem; }
.chain li::before { content: ""; position: absolute; left: .42rem; top: 1.2rem; bottom: -1.2rem; width: 2px;
  background: var(--line); }
.chain li:last-child { padding-bottom: 0; }
.chain li:last-child::before { display: none; }
.chain li::after { content: ""; position: absolute; left: 0; top: .95rem; width: .95rem; height: .95rem;
  border: 3px solid var(--accent); border-radius: 50%; background: var(--card); }
.chain .data::after { border-radius: 3px; border-color: var(--good); }
.chain .weights::after { border-color: var(--muted); }
.chain .stage:last-child::after { background: var(--accent); }
.card { padding: .7rem 1rem .8rem; border: 1px solid var(--line); border-radius: 10px; }
.card p { margin: .15rem 0 0; font-size: .9rem; overflow-wrap: anywhere; }
.card .what { margin: 0; color: var(--muted); font-size: .74rem; letter-spacing: .05em; text-transform: uppercase; }
.card .title { margin: 0 0 .2rem; font-size: 1rem; font-weight: 600; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1rem 2.5rem; }
.pair .bar { min-width: 8rem; }
.pair tbody th { max-width: 16rem; overflow: hidden; text-overflow: ellipsis; font-weight: 450; }
figure { margin: 0; }
.beside { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 1.2rem 2rem; }
.beside > figure, .beside > .main { flex: 100 1 26rem; min-width: 0; }
.beside > div { flex: 1 1 13rem; font-size: .94rem; }
.beside p { margin: 0 0 .6rem; color: var(--muted); }
.beside ol { margin: 0; padding-left: 1.2rem; }
.beside li { margin-bottom: .45rem; line-height: 1.35; }
.beside b { font-weight: 600; }
figure img { display: block; width: 100%; height: auto; border-radius: 8px; }
figure img:not(.drawing) { padding: .5rem; background: #fff; }
figcaption { margin-top: .5rem; }
.gallery, .sample { display: grid; gap: 1.6rem; }
.sample { gap: .7rem; }
.gallery figcaption { overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); gap: .9rem 1.5rem;
  margin: 0; }
.keys + dl { margin-top: 1.2rem; }
dt { color: var(--muted); font-size: .82rem; }
dd { margin: 0; overflow-wrap: anywhere; }
footer { color: var(--muted); font-size: .85rem; text-align: center; }
@media (max-width: 40rem) {
  body { padding: 0 .7rem 2rem; font-size: 15px; }
  header { padding: 1.6rem .3rem .8rem; }
  nav { position: static; padding: .7rem .3rem; }
  section { padding: 1.1rem .9rem; }
  .tiles { grid-template-columns: repeat(2, 1fr); gap: .6rem; }
  .tile { padding: .7rem .75rem; }
  .tile .value { font-size: 1.55rem; }
  .answer { font-size: 1.08rem; }
  .bar { min-width: 9rem; }
  .track { width: calc(100% - 4.2rem); margin-right: .3rem; }
  th, td { padding: .45rem .4rem; }
  tbody th { white-space: normal; overflow-wrap: break-word; font-size: .87rem; }
  .pair:not(.matrices) tbody th { overflow-wrap: anywhere; }
  .swatch { margin-right: .3rem; }
  .stages thead { display: none; }
  .stages tr { display: grid; grid-template-columns: repeat(3, 1fr); border-bottom: 1px solid var(--line); }
  .stages tbody th { grid-column: 1 / -1; min-width: 0; border: 0; }
  .stages td { border: 0; text-align: left; padding: .3rem .4rem .6rem 0; }
  .stages td::before { content: attr(data-label); display: block; color: var(--muted); font-size: .74rem; }
  .stages .best .score { margin: 0; }
  .difference { width: auto; min-width: 3.2rem; white-space: normal; text-align: right; }
  .difference .both { display: none; }
  .difference .number { width: auto; }
  .matrix td { min-width: 2.4rem; padding: .5rem .1rem; }
  .matrices .matrix td { min-width: 2.4rem; padding: .5rem .1rem; }
  .matrix thead th { font-size: .76rem; }
  .matrix thead th:not(.corner) span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; }
  .matrix tbody th { max-width: 6rem; white-space: normal; font-size: .76rem; }
  .matrix thead th.corner { white-space: normal; }
}
@page { margin: 14mm; }
@media print {
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { max-width: none; padding: 0; background: none; font-size: 10pt; }
  header { padding: 0 0 .5rem; }
  nav { display: none; }
  section { margin: 0 0 1rem; padding: .6rem 0; border: 0; border-top: 1px solid var(--line); border-radius: 0; }
  h2, h3 { break-after: avoid; }
  figure, tr, .tile, .card, .panels > div, .matrices > div { break-inside: avoid; }
  .scroll { overflow: visible; }
}
"""
