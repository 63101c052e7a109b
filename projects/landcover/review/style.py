"""The look of the review page, light and dark; the colours are those of the report."""

STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --muted: #56626e; --line: #d9e0e8; --page: #f3f5f8; --card: #ffffff;
  --accent: #2463b5; --on-accent: #ffffff; --soft: #e8f0fa; --stage: #e6eaef; --good: #1f7a55; --bad: #a8480b;
  --skip: #8a95a1; --key: #f3f5f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ebf0; --muted: #a3afbb; --line: #313c48; --page: #12171d; --card: #1b222a; --accent: #6aa5ec;
    --on-accent: #0e1319; --soft: #22344a; --stage: #0c1015; --good: #5cc49c; --bad: #f0955a; --skip: #77838f;
    --key: #27313b; }
}
html, body { height: 100%; margin: 0; }
body { background: var(--page) !important; color: var(--ink) !important;
  font: 14px/1.4 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif !important; }
#app, .q-layout, .q-page-container, .q-page { min-height: 0 !important; height: 100%; padding: 0 !important; }
.nicegui-content { display: block; height: 100%; padding: 0 !important; }
.review, .review * { box-sizing: border-box; }
.review { display: grid; grid-template-columns: minmax(0, 1fr) 316px; gap: 12px; height: 100vh; width: 100%;
  padding: 12px; }
.shown { display: flex; flex-direction: column; gap: 10px; min-height: 0; }
.review p, .review h1, .review h2, .review figure, .review ul, .review dl, .review dd { margin: 0; padding: 0; }
.review button, .review textarea, .review input { font: inherit; color: inherit; margin: 0; }
.review :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
kbd { display: inline-block; min-width: 1.45em; padding: 0 .36em; border: 1px solid var(--line);
  border-bottom-width: 2px; border-radius: 4px; background: var(--key); color: var(--muted);
  text-align: center; white-space: nowrap;
  font: 11px/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace !important; }

.head { flex: none; padding: 2px 2px 4px; }
.review h1 { font-size: 17px; font-weight: 650; line-height: 1.3; letter-spacing: 0; overflow: hidden;
  white-space: nowrap; text-overflow: ellipsis; }
.facts, .counts { color: var(--muted); font-size: 12.5px; white-space: nowrap; font-variant-numeric: tabular-nums; }
.numbers { display: flex; justify-content: space-between; gap: 10px; }
.count { font-weight: 600; font-size: 12.5px; white-space: nowrap; font-variant-numeric: tabular-nums; }
.bar { display: flex; gap: 1px; height: 7px; margin: 8px 0 5px; overflow: hidden; border-radius: 4px;
  background: var(--line); }
.bar span { transition: width .15s; } .bar .kept { background: var(--accent); }
.bar .replaced { background: var(--good); } .bar .skipped { background: var(--skip); }

.panels { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); grid-auto-rows: minmax(0, 1fr); gap: 10px;
  flex: 1; min-height: 0; }
.columns-3 { grid-template-columns: repeat(3, minmax(0, 1fr)); }
.columns-4 { grid-template-columns: repeat(4, minmax(0, 1fr)); }
.columns-5, .columns-6 { grid-template-columns: repeat(5, minmax(0, 1fr)); }
.panel { container-type: inline-size; position: relative; display: flex; flex-direction: column; min-height: 0;
  overflow: hidden; border: 1px solid var(--line); border-radius: 8px; background: var(--card); }
.panel figcaption { display: flex; align-items: center; gap: 7px; flex: none; height: 29px; padding: 0 10px;
  white-space: nowrap; font-size: 13px; }
.panel .name { font-weight: 600; }
.panel .fact, .panel .under { margin-left: auto; overflow: hidden; text-overflow: ellipsis; color: var(--muted);
  font-size: 12.5px; font-variant-numeric: tabular-nums; }
.panel .under, .probing .fact { display: none; } .probing .under { display: block; color: var(--ink); }
@container (max-width: 250px) { figcaption kbd { display: none; } }
.stage { position: relative; flex: 1; min-height: 0; overflow: hidden; background: var(--stage); touch-action: none;
  cursor: crosshair; user-select: none; }
.stage.enlarged { cursor: grab; } .stage.enlarged:active { cursor: grabbing; }
.plane { position: absolute; }
.plane img { position: absolute; inset: 0; width: 100%; height: 100%; max-width: none; pointer-events: none; }
.plane.sharp img { image-rendering: pixelated; }
.cross { display: none; position: absolute; left: -8px; top: -8px; width: 16px; height: 16px; border: 1.5px solid #fff;
  border-radius: 50%; box-shadow: 0 0 0 1px #000, inset 0 0 0 1px #000; pointer-events: none; }
.problem { flex: none; border: 1px solid var(--bad); border-radius: 8px; background: var(--card); color: var(--bad);
  font-weight: 550; overflow-wrap: anywhere; }
.review .problem { padding: 9px 12px; }
.problem:empty { display: none; }

.side { display: flex; flex-direction: column; gap: 10px; min-height: 0; margin: -4px; padding: 4px;
  overflow: hidden auto; }
.group { padding: 12px; border: 1px solid var(--line); border-radius: 8px; background: var(--card); flex: none; }
.decide { display: grid; grid-template-columns: 1fr 1fr; gap: 8px; }
.choice { display: flex; align-items: center; justify-content: space-between; gap: 6px; min-height: 38px;
  padding: 0 10px !important; border: 1px solid var(--line); border-radius: 7px; background: var(--card);
  cursor: pointer; font-size: 13.5px !important; font-weight: 550 !important; white-space: nowrap; }
.choice:hover { border-color: var(--accent); background: var(--soft); }
.choice:active { transform: translateY(1px); }
.choice:disabled { border-color: var(--line); background: none; color: var(--muted); cursor: default; }
.choice.whole { grid-column: 1 / -1; }
.choice.place { border-color: var(--accent); }
.choice[aria-pressed=true] { background: var(--accent); border-color: var(--accent);
  color: var(--on-accent) !important; }
.view { display: flex; flex-direction: column; gap: 9px; }
.slider { display: flex; align-items: center; gap: 10px; font-size: 13px; }
.slider output { min-width: 3.4em; text-align: right; color: var(--muted); font-variant-numeric: tabular-nums; }
.opacity { flex: 1; min-width: 0; accent-color: var(--accent); cursor: pointer; }
.tools { display: flex; gap: 6px; }
.tool { display: inline-flex; align-items: center; justify-content: center; height: 30px; min-width: 38px;
  padding: 0 9px !important; border: 1px solid var(--line); border-radius: 6px; background: var(--card);
  cursor: pointer; font-size: 13px !important; font-variant-numeric: tabular-nums; }
.tool.wide { flex: 1; } .tool.zoomed { min-width: 62px; }
.tool:hover { border-color: var(--accent); background: var(--soft); }
.tool[aria-pressed=true] { border-color: var(--accent); background: var(--soft); font-weight: 600 !important; }
.grow { display: flex; flex: 1 0 auto; }
.note { display: flex; flex: 1; flex-direction: column; }
.note .heading { display: flex; justify-content: space-between; margin-bottom: 6px; font-size: 13px; font-weight: 600; }
.note textarea { flex: 1; width: 100%; min-height: 52px; padding: 6px 8px; border: 1px solid var(--line);
  border-radius: 6px;
  background: var(--page); resize: none; }
.note textarea::placeholder { color: var(--muted); opacity: 1; }
.legend ul { display: grid; grid-template-columns: 1fr 1fr; gap: 5px 10px; list-style: none; font-size: 12.5px; }
.legend li { display: flex; align-items: flex-start; gap: 7px; line-height: 1.3; overflow-wrap: anywhere;
  min-width: 0; }
.legend .absent { color: var(--muted); } .legend .absent .swatch { opacity: .35; }
.swatch { flex: none; width: 14px; height: 14px; margin-top: 1px; border-radius: 3px;
  box-shadow: inset 0 0 0 1px rgba(0, 0, 0, .28); }
.hatched { background: repeating-linear-gradient(135deg, #787878 0 3px, #b9b9b9 3px 6px); }
.status { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

.done { display: none; grid-column: 1 / -1; grid-row: 1 / -1; place-content: center; justify-items: center; gap: 10px;
  border: 1px solid var(--line); border-radius: 8px; background: var(--card); text-align: center; padding: 24px; }
.done h2 { font-size: 21px; font-weight: 650; line-height: 1.3; }
.done code { padding: 6px 10px; border-radius: 6px; background: var(--page); overflow-wrap: anywhere;
  font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
.done p { color: var(--muted); overflow-wrap: anywhere; }
.finished .panel { display: none; } .finished .done { display: grid; }
.finished .legend, .finished .view .slider, .finished .note { opacity: .45; }

.help { max-width: 30rem; padding: 22px 26px; border: 1px solid var(--line); border-radius: 12px;
  background: var(--card); color: var(--ink); }
.help::backdrop { background: rgba(0, 0, 0, .45); }
.help h2 { margin-bottom: 12px !important; font-size: 17px; font-weight: 650; line-height: 1.3; }
.help dl { display: grid; grid-template-columns: auto 1fr; gap: 7px 16px; align-items: center; }
.help dt { margin: 0; text-align: right; } .help p { margin: 14px 0 !important; color: var(--muted); font-size: 13px; }

@media (max-width: 1100px) {
  .review { grid-template-columns: minmax(0, 1fr) 250px; gap: 10px; padding: 10px; }
  .group { padding: 10px; } .tools { gap: 5px; } .counts, .count { font-size: 12px; } .numbers { gap: 4px; }
  .decide { gap: 6px; } .choice { padding: 0 8px !important; } .place:not(.whole) kbd { display: none; }
  .tool { min-width: 32px; padding: 0 6px !important; } .tool.zoomed { min-width: 52px; }
}
@media (max-height: 740px) {
  .choice { min-height: 34px; } .note textarea { min-height: 32px; } .group { padding: 9px 10px; } .side { gap: 8px; }
}
@media (max-width: 700px) {
  .review { display: flex; flex-direction: column; height: auto; min-height: 100vh; }
  .panels { grid-auto-rows: 50vw; }
  .side { overflow: visible; }
}
@media (prefers-reduced-motion: reduce) { .bar span { transition: none; } }
"""
