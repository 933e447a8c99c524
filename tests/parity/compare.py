"""Compare a package's volume drivers with what Nova's do (cases.jsonl).

    python compare.py --adapter adapter.py [--corpus cases.jsonl]
        [--only iscsi,rbd] [--match REGEX] [--require xml,os_brick]
        [--show 5] [--json report.json] [--list]

The ADAPTER is a Python file (or an importable module's name) that stands
between this comparer and the package under test:

  make_driver(volume_type, conf) -> driver
        volume_type  a Cinder driver_volume_type ("iscsi", "rbd", ...); for the
                     lookup/ cases one that does not exist, which must raise.
                     Also "cephfs" (mounting only) and "(remotefs)": see below.
        conf         {"libvirt.rbd_user": "x", ...}: the options that differ
                     from Nova's defaults, by group and name.  What Nova
                     defaults to matters (see SCHEMA.md, "Defaults").
  connect(driver, connection_info, instance) -> None, or a connection_info
        instance has .uuid.  The connection_info given may be changed in place,
        or another one returned; what holds afterwards is compared, and is what
        the next steps are given.
  get_xml(driver, connection_info, disk_info) -> str | bytes | Element
        the <disk> element as it goes to libvirt, after the cache modes of
        conf["libvirt.disk_cachemodes"] were applied.
  disconnect(driver, connection_info, instance, force=False)
        force is only passed where the case has it.
  extend(driver, connection_info, instance, requested_size) -> new size

Optional:

  setup(world) / teardown(world)
        around every case.  world is a world.World, already installed: os-brick's
        InitiatorConnector.factory, processutils.execute, subprocess.run & Co,
        os.path.ismount, os.makedirs/mkdir/rmdir/stat (below world.FAKE_ROOTS),
        /proc/mounts, psutil and platform.machine all lead to it.  Point the
        package at it where it looks elsewhere:
            world.find_secret(type, id) -> object with UUIDString(), or None
            world.create_secret(type, id, password), world.delete_secret(...)
            world.factory(protocol, root_helper, **kw) -> connector
            world.execute(argv) -> (stdout, stderr) or raises CommandFailed
            world.ismount(path), world.makedirs(path), world.rmdir(path)
            world.guests, world.systemd, world.arch, world.secrets
  SKIP(case) -> a reason, or None
  EXCEPTIONS = {"nova.exception.InvalidVolume": "package.BadShare", ...}
        what Nova's exceptions are called there; with it, or with
        --strict-exceptions, the types are compared and not only whether
        anything was raised.
  normalise_xml(element) -> element
        applied to both sides before comparing.
  attach_encryptor(driver, connection_info, instance, encryption=None),
  detach_encryptor(driver, connection_info, instance, encryption=None,
                   destroy_secrets=True),
  remotefs_call(driver, connection_info, instance, method, args, kwargs)
        cases that need one of these are reported as skipped where it is missing.

CATEGORIES (each pass / fail / not applicable, per case):

  xml              every get_xml step whose outcome in Nova is XML; equal up to
                   the order of attributes and of differently named siblings
                   (siblings of one name, such as <host>, keep their order)
  os_brick         connect_volume / disconnect_volume / extend_volume: same
                   number, order and arguments (by name, os-brick's defaults
                   filled in), and the connector they are called on was made
                   with the same protocol and options (root_helper aside)
  connection_info  the dict after each connect
  result           what extend returns
  exception        where Nova raises on purpose, or passes on what os-brick or
                   a command raised: raise; and nothing raised elsewhere by
                   connect, disconnect, extend or make_driver
  bad_input        where Nova stumbles (KeyError, TypeError, ... on a key that
                   is absent or of another type): raising anything is a pass
  host_ops         commands, directories made and removed, per step
  secrets          secrets created or deleted (encryption/ cases)

A category can only pass where something was compared.  Exit status: 0 when
the required categories (default: xml,os_brick) have no failure, 1 otherwise,
2 on wrong usage.  As a library: compare(corpus, adapter) -> list of Outcome.
"""

import argparse
import collections
import importlib
import importlib.util
import json
import os
import re
import sys
import xml.etree.ElementTree as ET

import replay as replay_mod
from world import bind

CATEGORIES = [
    'xml',
    'os_brick',
    'connection_info',
    'result',
    'exception',
    'bad_input',
    'host_ops',
    'secrets',
]
STUMBLES = {
    'builtins.KeyError',
    'builtins.TypeError',
    'builtins.AttributeError',
    'builtins.ValueError',
    'builtins.UnboundLocalError',
    'builtins.IndexError',
}
OPTIONAL_STEPS = {'attach_encryptor', 'detach_encryptor', 'remotefs_call'}

Outcome = collections.namedtuple('Outcome', 'name driver status skipped')
# status: {category: [] (passed) or [differences]}; a category absent was not
# applicable


# -- XML ---------------------------------------------------------------------
def tree(xml, normalise=None):
    el = ET.fromstring(xml)
    if normalise:
        el = normalise(el)
    return _tree(el)


def _tree(el):
    kids = sorted((_tree(c) for c in el), key=lambda t: t[0])  # stable
    text = el.text or ''
    if kids and not text.strip():
        text = ''
    return (el.tag, tuple(sorted(el.attrib.items())), text, tuple(kids))


def xml_differences(want, got, where=''):
    """Readable differences between two trees from tree()."""
    where = where + '/' + want[0]
    if want[0] != got[0]:
        return ['%s: is <%s>' % (where, got[0])]
    out = []
    w, g = dict(want[1]), dict(got[1])
    for k in sorted(set(w) | set(g)):
        if w.get(k) != g.get(k):
            out.append('%s/@%s: want %r, got %r' % (where, k, w.get(k), g.get(k)))
    if want[2] != got[2]:
        out.append('%s: want text %r, got %r' % (where, want[2], got[2]))
    by = collections.defaultdict(lambda: ([], []))
    for c in want[3]:
        by[c[0]][0].append(c)
    for c in got[3]:
        by[c[0]][1].append(c)
    for tag in sorted(by):
        a, b = by[tag]
        for x, y in zip(a, b):
            out += xml_differences(x, y, where)
        for x in a[len(b) :]:
            out.append('%s: lacks <%s>' % (where, tag))
        for x in b[len(a) :]:
            out.append(
                '%s: has an extra <%s %s>' % (where, tag, ' '.join('%s=%r' % kv for kv in x[1]))
            )
    return out


# -- os-brick ----------------------------------------------------------------
def made_with(call):
    d = bind('factory', call['args'], call['kwargs'])
    d.pop('root_helper', None)
    d['protocol'] = str(d.get('protocol')).upper()
    return {k: v for k, v in d.items() if v is not None}


def method_calls(calls, step):
    makers = {c['connector']: c for c in calls if c['call'] == 'factory'}
    out = []
    for c in calls:
        if c['call'] != 'factory' and c.get('step') == step:
            maker = makers.get(c['connector'])
            out.append(
                {
                    'call': c['call'],
                    'arguments': bind(c['call'], c['args'], c['kwargs']),
                    'connector': made_with(maker) if maker else None,
                }
            )
    return out


def differences(want, got, where=''):
    if isinstance(want, dict) and isinstance(got, dict):
        out = []
        for k in sorted(set(want) | set(got), key=str):
            if k not in got:
                out.append('%s.%s: lacking (want %s)' % (where, k, short(want[k])))
            elif k not in want:
                out.append('%s.%s: extra (%s)' % (where, k, short(got[k])))
            else:
                out += differences(want[k], got[k], '%s.%s' % (where, k))
        return out
    if isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        out = []
        for i, (a, b) in enumerate(zip(want, got)):
            out += differences(a, b, '%s[%d]' % (where, i))
        return out
    if want == got and type(want) is type(got):
        return []
    return ['%s: want %s, got %s' % (where, short(want), short(got))]


def short(v, n=160):
    s = json.dumps(v, sort_keys=True, ensure_ascii=False)
    return s if len(s) <= n else s[:n] + '...'


# -- one case ----------------------------------------------------------------
def run_case(case, adapter, strict_exceptions=False, strict_factory=False):
    skip = getattr(adapter, 'SKIP', None)
    reason = skip(case) if skip else None
    need = {s['op'] for s in case['steps']} & OPTIONAL_STEPS
    lacking = sorted(n for n in need if not hasattr(adapter, n))
    if not reason and lacking:
        reason = 'the adapter has no ' + ', '.join(lacking)
    if reason:
        return Outcome(case['name'], case['driver'], {}, reason)
    got = replay_mod.replay(case, adapter)
    status = {}
    mapping = getattr(adapter, 'EXCEPTIONS', None) or {}

    def note(cat, diffs):
        status.setdefault(cat, []).extend(diffs)

    wants, gots = case['results'], got['results']
    if len(wants) != len(gots):
        # make_driver failed on one side only
        w, g = wants[0]['exception'], gots[0]['exception']
        note(
            'exception',
            [
                'make_driver: want %s, got %s'
                % (w['type'] if w else 'no exception', g['type'] if g else 'no exception')
            ],
        )
        if any('xml' in r for r in wants):
            note('xml', ['no driver'])
        if any(c['call'] != 'factory' for c in case['calls_to_os_brick']):
            note('os_brick', ['no driver'])
        return Outcome(case['name'], case['driver'], status, None)

    last = {'': case.get('connection_info')}
    for k, v in (case.get('attachments') or {}).items():
        last[k] = v['connection_info']
    for i, (w, g) in enumerate(zip(wants, gots)):
        at = 'step %d %s%s' % (i, w['op'], ' on ' + w['on'] if w.get('on') else '')
        who = w.get('on', '')
        last[who] = w.get('connection_info', last[who])
        we, ge = w['exception'], g['exception']
        if we and we['type'] in STUMBLES and not we.get('scripted'):
            note(
                'bad_input', [] if ge else ['%s: Nova raises %s, this does not' % (at, we['type'])]
            )
            continue
        if we:
            cat = 'exception'
            if not ge:
                note(cat, ['%s: want %s, nothing was raised' % (at, we['type'])])
            else:
                want_type = mapping.get(we['type'], we['type'])
                names = [ge['type']] + ge['bases']
                if (strict_exceptions or we['type'] in mapping) and want_type not in names:
                    note(cat, ['%s: want %s, got %s' % (at, want_type, ge['type'])])
                else:
                    note(cat, [])
        elif ge and w['op'] != 'get_xml':
            note(
                'exception',
                [
                    '%s: raised %s (%s)'
                    % (at, ge['type'], ge['message'] if ge['message'] is not None else '...')
                ],
            )
        elif w['op'] != 'get_xml':
            note('exception', [])
        if w.get('xml'):
            if ge:
                note('xml', ['%s: raised %s (%s)' % (at, ge['type'], ge['message'])])
            elif not g.get('xml'):
                note('xml', [at + ': no XML'])
            else:
                norm = getattr(adapter, 'normalise_xml', None)
                note(
                    'xml',
                    [
                        '%s: %s' % (at, d)
                        for d in xml_differences(tree(w['xml'], norm), tree(g['xml'], norm))
                    ],
                )
        a = method_calls(case['calls_to_os_brick'], i)
        b = method_calls(got['calls_to_os_brick'], i)
        if a or b:
            if [c['call'] for c in a] != [c['call'] for c in b]:
                note(
                    'os_brick',
                    [
                        '%s: want calls %s, got %s'
                        % (at, [c['call'] for c in a], [c['call'] for c in b])
                    ],
                )
            else:
                note('os_brick', ['%s: %s' % (at, d) for d in differences(a, b)])
        if w['op'] == 'connect' and not we and not ge:
            note(
                'connection_info',
                ['%s: %s' % (at, d) for d in differences(last[who], g['connection_info'])],
            )
        if w['op'] == 'extend' and not we and not ge:
            note('result', ['%s: %s' % (at, d) for d in differences(w['result'], g['result'])])
        if w['host_ops'] or g['host_ops']:
            note(
                'host_ops', ['%s: %s' % (at, d) for d in differences(w['host_ops'], g['host_ops'])]
            )
        made = [c for c in w['secret_calls'] if c['call'] != 'find_secret']
        made_g = [c for c in g['secret_calls'] if c['call'] != 'find_secret']
        if made or made_g:
            note('secrets', ['%s: %s' % (at, d) for d in differences(made, made_g)])
    if strict_factory:
        f = [made_with(c) for c in case['calls_to_os_brick'] if c['call'] == 'factory']
        h = [made_with(c) for c in got['calls_to_os_brick'] if c['call'] == 'factory']
        if f or h:
            note('os_brick', ['factory calls: ' + d for d in differences(f, h)])
    return Outcome(case['name'], case['driver'], status, None)


def load(path):
    with open(path, encoding='utf-8') as f:
        return [json.loads(line) for line in f]


def compare(corpus, adapter, **kw):
    """corpus: a path, or cases from load()."""
    cases = load(corpus) if isinstance(corpus, (str, os.PathLike)) else corpus
    return [run_case(c, adapter, **kw) for c in cases]


def load_adapter(ref):
    if not os.path.exists(ref):
        return importlib.import_module(ref)
    spec = importlib.util.spec_from_file_location('volume_adapter', ref)
    mod = importlib.util.module_from_spec(spec)
    sys.path.insert(0, os.path.dirname(os.path.abspath(ref)))
    spec.loader.exec_module(mod)
    return mod


def table(outcomes):
    rows = collections.defaultdict(lambda: collections.defaultdict(lambda: [0, 0]))
    skipped = collections.Counter()
    total = collections.Counter()
    for o in outcomes:
        key = o.name.split('/')[0]
        key = str(o.driver) if key == 'unit' else key
        total[key] += 1
        if o.skipped:
            skipped[key] += 1
        for cat, diffs in o.status.items():
            rows[key][cat][0] += not diffs
            rows[key][cat][1] += 1
    lines = [
        '%-14s %6s %6s ' % ('driver', 'cases', 'skip') + ' '.join('%15s' % c for c in CATEGORIES)
    ]
    sums = collections.defaultdict(lambda: [0, 0])
    for key in sorted(total):
        cells = []
        for c in CATEGORIES:
            p, n = rows[key][c]
            sums[c][0] += p
            sums[c][1] += n
            cells.append('%15s' % ('%d/%d' % (p, n) if n else '-'))
        lines.append('%-14s %6d %6d ' % (key, total[key], skipped[key]) + ' '.join(cells))
    lines.append(
        '%-14s %6d %6d ' % ('all', sum(total.values()), sum(skipped.values()))
        + ' '.join('%15s' % ('%d/%d' % tuple(sums[c]) if sums[c][1] else '-') for c in CATEGORIES)
    )
    return '\n'.join(lines)


def main(argv=None):
    ap = argparse.ArgumentParser(description="compare volume drivers with Nova's")
    here = os.path.dirname(os.path.abspath(__file__))
    ap.add_argument('--adapter', default='adapter.py')
    ap.add_argument('--corpus', default=os.path.join(here, 'cases.jsonl'))
    ap.add_argument('--only', help='drivers, comma separated')
    ap.add_argument('--match', help='a regular expression for case names')
    ap.add_argument('--require', default='xml,os_brick')
    ap.add_argument(
        '--show',
        type=int,
        default=3,
        metavar='N',
        help='differences shown per driver and category',
    )
    ap.add_argument('--json', help='write every outcome there')
    ap.add_argument('--strict-exceptions', action='store_true')
    ap.add_argument(
        '--strict-factory', action='store_true', help='compare every factory call, in order'
    )
    ap.add_argument('--list', action='store_true', help='only list the cases')
    a = ap.parse_args(argv)
    cases = load(a.corpus)
    if a.only:
        cases = [c for c in cases if str(c['driver']) in a.only.split(',')]
    if a.match:
        cases = [c for c in cases if re.search(a.match, c['name'])]
    if not cases:
        print('no case selected', file=sys.stderr)
        return 2
    required = [c for c in a.require.split(',') if c]
    if set(required) - set(CATEGORIES):
        print('unknown category in --require; known: ' + ', '.join(CATEGORIES), file=sys.stderr)
        return 2
    if a.list:
        print('\n'.join(c['name'] for c in cases))
        return 0
    adapter = load_adapter(a.adapter)
    outcomes = compare(
        cases, adapter, strict_exceptions=a.strict_exceptions, strict_factory=a.strict_factory
    )
    print(table(outcomes))
    shown = collections.Counter()
    for o in outcomes:
        for cat, diffs in o.status.items():
            if diffs:
                shown[o.name.split('/')[0], cat] += 1
                if shown[o.name.split('/')[0], cat] <= a.show:
                    print('\n%s [%s]' % (o.name, cat))
                    for d in diffs[:6]:
                        print('    ' + d)
    if a.json:
        with open(a.json, 'w') as f:
            json.dump([o._asdict() for o in outcomes], f, indent=1)
    failing = {c: sum(bool(o.status.get(c)) for o in outcomes) for c in required}
    seen = {c: sum(c in o.status for o in outcomes) for c in required}
    for c in required:
        print('required %-16s %d of %d cases differ' % (c, failing[c], seen[c]))
    if not any(seen.values()):
        print('nothing was compared in the required categories')
        return 1
    return 1 if any(failing.values()) else 0


if __name__ == '__main__':
    sys.exit(main())
