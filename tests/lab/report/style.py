#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""What the page looks like."""

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 110rem;
  padding: 0 1rem; }
p, dl, ul.legend { max-width: 60rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
small { display: block; font-weight: normal; opacity: .8; }
.verdict { font-size: 1.1rem; font-weight: 600; padding: .4rem .8rem; border-radius: .3rem; }
.legend { list-style: none; padding: 0; }
.mark { display: inline-block; min-width: 8rem; padding: 0 .5rem; border-radius: .2rem; }
.wide { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 2px; }
th { text-align: left; vertical-align: bottom; padding: .2rem .5rem; }
tbody th { vertical-align: middle; white-space: nowrap; }
.matrix thead th:not(:first-child) { vertical-align: bottom; padding: .2rem 0; }
.matrix thead th span, .figures thead th span { writing-mode: vertical-rl;
  transform: rotate(180deg); white-space: nowrap; }
.matrix tbody th { position: sticky; left: 0; background: Canvas; z-index: 1; }
.matrix td { padding: 0; text-align: center; border-radius: .2rem; min-width: 4.5rem; }
.matrix td.not-chosen { opacity: .4; font-size: .75rem; }
.figures td { text-align: right; padding: .1rem .6rem; font-variant-numeric: tabular-nums; }
.figures tbody tr:nth-child(odd), .facts tbody tr:nth-child(odd) { background: #8881; }
summary { cursor: pointer; list-style: none; padding: .25rem .3rem; font-size: .8rem;
  line-height: 1.25; }
summary::-webkit-details-marker { display: none; }
summary:hover, summary:focus-visible { outline: 2px solid currentColor; }
details[open] > summary { outline: 3px solid currentColor; }
.stand-in { border-left: 4px double #a60; padding-left: .3rem; color: #a60; opacity: 1; }
.passed { background: #c9ecc9; color: #073b07; }
.passed-the-second-time { background: #f4ecb8; color: #4a3c00; }
.passed-in-part { background: #c8e6ef; color: #05323f; }
.failed, .error { background: #b3161b; color: #fff; font-weight: 600; }
.does-not-apply { background: #e6e6e6; color: #444; }
.skipped, .not-run { background: #fbe3a2; color: #4a3500; }
.inside { position: fixed; inset: auto 0 0 0; height: 55vh; overflow: auto; z-index: 2;
  background: Canvas; color: CanvasText; text-align: left; font-size: 1rem; font-weight: normal;
  padding: .8rem 1.2rem 2rem; border-top: 4px solid #888; box-shadow: 0 -1rem 2rem #0006; }
.inside h3, .inside h4 { margin: .4rem 0 .2rem; }
.inside pre { margin: 0; font: 12px/1.45 ui-monospace, monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; background: #8882; padding: .4rem .6rem; border-radius: .3rem; }
dt { font-weight: 600; } dd { margin: 0 0 .4rem 1rem; }
@media print { .inside { display: none; } }
"""
