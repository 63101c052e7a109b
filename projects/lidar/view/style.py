"""The look of the 3-D page, light and dark; the colours are those of the report."""

STYLE = """
:root { color-scheme: light; --ink: #1f2933; --muted: #5b6773; --line: #d9e0e8; --card: #ffffffee; --soft: #eef2f7;
  --accent: #2463b5; --space: #f3f6f9; }
:root[data-theme=dark] { color-scheme: dark; --ink: #e6ebf0; --muted: #a3afbb; --line: #313c48; --card: #1b222aee;
  --soft: #27313b; --accent: #6aa5ec; --space: #10151a; }
* { box-sizing: border-box; margin: 0; }
html, body { height: 100%; overflow: hidden; }
body { background: var(--space); color: var(--ink);
  font: 14px/1.4 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
button, input { font: inherit; color: inherit; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
canvas { position: fixed; inset: 0; width: 100%; height: 100%; touch-action: none; cursor: grab; }
canvas:active { cursor: grabbing; }
.card { position: fixed; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  backdrop-filter: blur(6px); }
#panel { top: 14px; left: 14px; width: 292px; max-height: calc(100% - 28px); display: flex; flex-direction: column; }
#panel > * { padding: 12px 14px; }
#panel > * + * { border-top: 1px solid var(--line); }
header { display: flex; gap: 10px; align-items: flex-start; }
header div { flex: 1; min-width: 0; }
h1 { font-size: 15px; font-weight: 650; line-height: 1.3; overflow-wrap: anywhere; }
header p, .note { color: var(--muted); font-size: 12.5px; font-variant-numeric: tabular-nums; }
.plain { border: 1px solid var(--line); border-radius: 7px; background: none; padding: 3px 9px; cursor: pointer; }
.plain:hover { background: var(--soft); }
.modes { display: flex; flex-wrap: wrap; gap: 5px; flex: none; }
.modes button { border: 1px solid var(--line); border-radius: 99px; background: none; padding: 2px 10px;
  font-size: 13px; cursor: pointer; }
.modes button:hover { background: var(--soft); }
.modes button[aria-pressed=true] { background: var(--accent); border-color: var(--accent); color: var(--space); }
#legend { overflow-y: auto; min-height: 60px; }
#legend label { display: flex; align-items: center; gap: 8px; padding: 2px 4px; border-radius: 6px; cursor: pointer; }
#legend label:hover { background: var(--soft); }
#legend input { accent-color: var(--accent); margin: 0; }
#legend i { flex: none; width: 14px; height: 14px; border-radius: 4px; border: 1px solid #00000028; }
#legend span { flex: 1; min-width: 0; }
#legend b { font-weight: 400; color: var(--muted); font-size: 12.5px; font-variant-numeric: tabular-nums; }
#legend .off { opacity: .45; }
#legend .ends span { flex: none; }
.heading { display: flex; justify-content: space-between; align-items: baseline; margin-bottom: 6px; }
.heading strong { font-weight: 600; }
.heading button { border: 0; background: none; color: var(--accent); cursor: pointer; padding: 0 2px;
  font-size: 12.5px; }
.ramp { height: 14px; border-radius: 4px; border: 1px solid var(--line); }
.ends { display: flex; justify-content: space-between; color: var(--muted); font-size: 12.5px; margin-top: 3px;
  font-variant-numeric: tabular-nums; }
.sliders { display: grid; grid-template-columns: auto 1fr; gap: 6px 10px; align-items: center; font-size: 13px;
  flex: none; }
.sliders input { width: 100%; accent-color: var(--accent); }
.tools { display: flex; gap: 6px; flex-wrap: wrap; flex: none; }
#bar { right: 16px; bottom: 16px; padding: 7px 12px 8px; font-size: 12.5px; text-align: center; pointer-events: none;
  font-variant-numeric: tabular-nums; }
#bar i { display: block; height: 7px; margin-top: 3px; border: 1px solid var(--ink);
  background: linear-gradient(90deg, var(--ink) 50%, transparent 50%); }
#north { right: 16px; top: 14px; width: 46px; height: 46px; border-radius: 50%; pointer-events: none; }
#point { right: 16px; bottom: 76px; padding: 10px 14px; font-size: 13px; max-width: 300px; }
#point:empty { display: none; }
#point dl { display: grid; grid-template-columns: auto auto; gap: 1px 14px; }
#point dt { color: var(--muted); } #point dd { text-align: right; font-variant-numeric: tabular-nums; }
#failure { left: 50%; top: 40%; transform: translateX(-50%); padding: 16px 20px; max-width: 420px; }
#failure:empty { display: none; }
details summary { cursor: pointer; color: var(--muted); font-size: 12.5px; }
kbd { border: 1px solid var(--line); border-radius: 4px; padding: 0 .35em; font: 11.5px ui-monospace, monospace; }
@media (max-width: 640px) { #panel { width: auto; right: 14px; max-height: 45%; } #north { display: none; } }
"""
