"""The page's style sheet: light and dark, for narrow screens and for paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1c1e; --soft: #5a6068; --rule: #d5d9de; --band: #f3f5f7; --mark: #fff3d6;
  --link: #0a58a5; --unsure: 232 89 12;
  --line-0: #0072b2; --line-1: #c04f00; --line-2: #00805f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171a; --ink: #e8e8e6; --soft: #a3abb5; --rule: #3a4048; --band: #1f2328; --mark: #3a3117;
    --link: #7ab8f5; --unsure: 190 64 0;
    --line-0: #56b4e9; --line-1: #f08a45; --line-2: #2fc79f;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 66rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere;
}
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 {
  font-size: 1.3rem; line-height: 1.3; margin: 2.75rem 0 .75rem; padding-top: .6rem;
  border-top: 1px solid var(--rule);
}
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p { margin: .6rem 0; max-width: 46rem; }
a { color: var(--link); }
a.missing { color: var(--soft); }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; list-style: none; margin: 1rem 0 0; padding: 0; }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
p code, li code { background: var(--band); padding: .1em .3em; border-radius: 3px; }
.note, figcaption small, caption { color: var(--soft); }
.note { font-size: .92rem; }
.missing-part { border-left: 3px solid var(--rule); padding-left: .8rem; color: var(--soft); }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: .75rem 0; }
dl.facts dt { color: var(--soft); }
dl.facts dd { margin: 0; }
.scroll { overflow-x: auto; margin: 1rem 0; }
.scroll:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table.figures { border-collapse: collapse; font-size: .92rem; overflow-wrap: normal; }
table.figures caption { text-align: left; padding-bottom: .4rem; font-size: .92rem; }
table.figures caption span {
  display: inline-block; position: sticky; left: 0; max-width: min(100%, 46rem, calc(100vw - 1.6rem));
}
table.figures th, table.figures td {
  padding: .3rem .75rem .3rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--rule);
}
table.figures th { font-weight: 600; }
table.figures tbody th { font-weight: 400; min-width: 9em; }
table.figures td { min-width: 3em; }
table.figures .number {
  text-align: right; padding-left: .5rem; font-variant-numeric: tabular-nums; white-space: nowrap;
}
table.figures thead th.number { white-space: normal; vertical-align: bottom; }
table.figures thead th { vertical-align: bottom; }
table.figures tr.marked { background: var(--mark); }
details { margin: .4rem 0; }
summary { cursor: pointer; padding: .2rem 0; }
code.command {
  display: block; margin: .3rem 0; padding: .4rem .6rem; background: var(--band); border-radius: 4px;
  color: var(--ink); white-space: pre; overflow-x: auto; overflow-wrap: normal;
}
.charts {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr));
  gap: 1.25rem 1.75rem; margin: 1rem 0;
}
.drawings {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20.4rem), 1fr));
  gap: 1.1rem .9rem; margin: 1rem 0;
}
figure { margin: 0; }
figcaption { font-size: .92rem; margin-bottom: .3rem; }
.charts figure, .drawings figure { display: flex; flex-direction: column; justify-content: space-between; }
svg { max-width: 100%; height: auto; }
svg.chart-lines { display: block; width: 100%; }
.chart-lines text {
  fill: var(--ink); font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif;
}
.chart-lines .grid { stroke: var(--rule); stroke-width: 1; }
.chart-lines .axis { stroke: var(--soft); stroke-width: 1; fill: none; }
.chart-lines .best { stroke: var(--soft); stroke-dasharray: 2 3; }
.chart-lines .line { fill: none; stroke-width: 2; }
.chart-lines .line-0 { stroke: var(--line-0); } .chart-lines .dot-0 { fill: var(--line-0); }
.chart-lines .line-1 { stroke: var(--line-1); stroke-dasharray: 6 3; }
.chart-lines .dot-1 { fill: var(--line-1); }
.chart-lines .line-2 { stroke: var(--line-2); stroke-dasharray: 2 3; }
.chart-lines .dot-2 { fill: var(--line-2); }
.plate {
  border: 1px solid var(--rule); border-radius: 4px; padding: .15rem;
  max-width: 100%;
}
.plate svg { display: block; }
.wide svg { max-width: none; }
.words { line-height: 1.9; max-width: 46rem; }
.words.passage { padding: .9rem 1rem; border: 1px solid var(--rule); border-radius: 6px; }
.word {
  background: rgb(var(--unsure) / calc(var(--u) * 85%)); border-radius: 3px; padding: .08em .16em;
  -webkit-print-color-adjust: exact; print-color-adjust: exact; forced-color-adjust: none;
}
.word.unknown { color: var(--soft); font-style: italic; }
.legend {
  display: flex; flex-wrap: wrap; gap: .3rem .5rem; align-items: center; font-size: .92rem;
  margin: .75rem 0;
}
.legend .word { padding: .1em .5em; border: 1px solid var(--rule); }
.cards {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1.5rem 1.25rem;
  margin: 1rem 0;
}
.cards figure { border: 1px solid var(--rule); border-radius: 6px; overflow: hidden; }
.cards .photo { background: var(--band); }
.cards img { display: block; width: 100%; height: 13rem; object-fit: contain; }
.cards img.tiny { image-rendering: pixelated; }
.cards figcaption { padding: .6rem .75rem .75rem; margin: 0; }
.cards p { margin: .3rem 0; }
.cards .words { line-height: 1.75; font-size: 1rem; }
@media (max-width: 40rem) {
  body { padding: 1rem .8rem 3rem; }
  dl.facts { grid-template-columns: 1fr; gap: 0; }
  dl.facts dd { margin-bottom: .45rem; }
  .words.passage { padding: .6rem .7rem; }
}
@media print {
  :root {
    --paper: #ffffff; --ink: #000000; --soft: #444444; --rule: #bbbbbb; --band: #f3f5f7; --mark: #fff3d6;
    --link: #000000; --unsure: 232 89 12; --line-0: #0072b2; --line-1: #c04f00; --line-2: #00805f;
  }
  html { font-size: 9.5pt; }
  body { max-width: none; padding: 0; }
  .charts, .drawings { grid-template-columns: 1fr 1fr; }
  .cards { grid-template-columns: 1fr 1fr 1fr; }
  nav { display: none; }
  .scroll { overflow: visible; }
  .wide svg { max-width: 100%; }
  h2, h3, summary { break-after: avoid; }
  figure, table.figures tr { break-inside: avoid; }
}
""".strip()
