// SPDX-License-Identifier: Apache-2.0
#include "page/style.h"

namespace swarr {

// Pictures are never scaled on a screen, so that their letters have one size: they scroll, as wide tables do. The
// colours within pictures follow in HtmlPage.
const std::string_view kPageStyle = R"(
:root { color-scheme: light dark; --ground: #fff; --ink: #222; --soft: #555; --line: #d9dcdf; --panel: #f4f5f6;
        --link: #0067a5; --far: #b3261e; --shade: #0004; }
* { box-sizing: border-box; }
body { font: 16px/1.5 Helvetica, Arial, sans-serif; color: var(--ink); background: var(--ground); max-width: 64rem;
       margin: 1.5rem auto 3rem; padding: 0 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.55rem; line-height: 1.25; margin: 0 0 .6rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
p, ul, dl, figcaption { max-width: 46rem; }
ul { padding-left: 1.2rem; }
li { margin: .25rem 0; }
a { color: var(--link); }
nav { font-size: .9rem; line-height: 1.9; margin: .8rem 0; }
nav a { margin-right: .9rem; white-space: nowrap; }
code, pre { font: .86rem/1.45 ui-monospace, Menlo, Consolas, monospace; }
pre { background: var(--panel); padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.notice { border-left: 4px solid var(--far); padding: .3rem .8rem; background: var(--panel); max-width: 46rem; }

/* A shade at an edge says that there is more to scroll to; at the end of the way the ground covers it. */
.scroll { overflow-x: auto; background: linear-gradient(90deg, var(--ground) 50%, #0000) left / 36px 100% no-repeat local,
            linear-gradient(-90deg, var(--ground) 50%, #0000) right / 36px 100% no-repeat local,
            linear-gradient(90deg, var(--shade), #0000) left / 12px 100% no-repeat,
            linear-gradient(-90deg, var(--shade), #0000) right / 12px 100% no-repeat; }
table { border-collapse: separate; border-spacing: 0; margin: .6rem 0; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: bottom; }
th { font-weight: 600; min-width: 4.2rem; max-width: 8rem; }
td { white-space: nowrap; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--ground); text-align: left;
                                 white-space: normal; min-width: 8rem; max-width: 15rem; padding-left: 0; }
tbody tr:hover td { background: var(--panel); }
td:first-child:has(svg) { padding-left: 1.35rem; text-indent: -1.35rem; }
svg.mark { vertical-align: -2px; margin-right: .45rem; }
.compare td { white-space: normal; overflow-wrap: anywhere; }
table.pairs { max-width: 46rem; }
table.pairs td { text-align: left; vertical-align: top; }
table.pairs td + td { white-space: normal; overflow-wrap: anywhere; }
dt { font-weight: 600; margin-top: .5rem; }
dd { margin: 0 0 0 1.2rem; }

figure { margin: 1.4rem 0; }
figure svg { display: block; }
.scroll > svg > style + rect { fill: none; }  /* a picture's ground, which would cover the shade; by night too */
figcaption { font-size: .9rem; color: var(--soft); margin-top: .3rem; }
details { margin: .8rem 0; }
summary { cursor: pointer; font-weight: 600; }
.trace { margin: .5rem 0 1rem; }
.trace p { margin: 0; font-size: .875rem; max-width: none; }
.trace text { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.near { stroke: #0067a5; } .far { stroke: #d32f2f; } .lost { stroke: #d32f2f; stroke-dasharray: 4 3; }

@media screen and (prefers-color-scheme: dark) {
  :root { --ground: #16191d; --ink: #dfe3e7; --soft: #a9b0b7; --line: #343a42; --panel: #20252b; --link: #6cb4ee;
          --far: #ff7b72; --shade: #fff5; }
  .near { stroke: #6cb4ee; } .far, .lost { stroke: #ff7b72; }
}
@media (max-width: 600px) {
  body { font-size: 15px; padding: 0 .8rem; }
  th:first-child, td:first-child { min-width: 8.5rem; max-width: 9.5rem; }
}
@page { size: A4; margin: 12mm 10mm; }
@page across { size: A4 landscape; margin: 10mm; }
@media print {
  :root { color-scheme: light; }
  body { font-size: 10.5pt; max-width: none; margin: 0; padding: 0; }
  nav { display: none; }
  a { color: inherit; text-decoration: none; }
  .scroll { overflow: visible; background: none; }
  #runs { page: across; }  /* the widest table */
  table { font-size: 7.5pt; }
  th, td { padding: .12rem .25rem; min-width: 0; }
  th:first-child, td:first-child { position: static; min-width: 28mm; }
  thead { display: table-header-group; }
  .compare td { max-width: 28mm; }
  details::details-content { content-visibility: visible; block-size: auto; }
  tr, figure, .trace { break-inside: avoid; }
  h2, h3, summary { break-after: avoid; }
}
)";

}  // namespace swarr
