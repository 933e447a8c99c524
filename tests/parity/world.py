"""An in-memory host, shared by the corpus maker and by the comparer.

`World(spec)` is everything outside the code under test: the os-brick
connectors, the libvirt secrets, the mount table, the commands that are run,
pid 1, the machine's architecture.  `with world.installed():` puts it in place
of the real thing; whatever the code under test does to it is written to

    world.brick     calls made to os-brick (factory and connector methods)
    world.ops       what was done to the host: exec / makedirs / rmdir
    world.lookups   secrets looked up, created or deleted

Only the standard library is needed; os-brick, oslo.concurrency and psutil are
patched where they can be imported.

spec (every key optional):
  arch            what platform.machine() says             default "x86_64"
  secrets         {usage id: uuid}: libvirt secrets of usage type "volume"
  mounts          [[device, mountpoint, fstype], ...] mounted beforehand
  guests          [{"uuid": u, "disks": [{"type": t, "path": p}]}]: defined
                  domains found when the host comes up
  systemd         {"pid1": "systemd", "run_dir": true, "state": "running"}
  stat_size       {path: st_size} for a mountpoint (quobyte's health check);
                  -1: stat fails with ENOTCONN
  exec            [{"argv0": "mount", "stderr": "...", "exit_code": 32,
                    "times": 1, "mounted_anyway": false}] commands that fail
  proc_mounts_as  {mountpoint: device} the device /proc/mounts shows instead
  os_brick        {"factory": [...], "connect_volume": [...],
                   "disconnect_volume": [...], "extend_volume": [...]}
                  each list is consumed one entry per call, the last one
                  staying: {"return": v} or {"raise": {"type": dotted name,
                  "message": s or null, "kwargs": {...}}}; "mutates": {k: v}
                  is stored in the connection_properties handed over.
                  "unsupported": [protocol, ...] for which the factory raises
                  os-brick's InvalidConnectorProtocol (some architectures).
"""

import builtins
import contextlib
import copy
import importlib
import io
import os
import os.path
import platform
import stat as stat_mod
import subprocess
from unittest import mock

FAKE_ROOTS = ('/var/lib/nova', '/mnt', '/gpfs', '/var/lib/volumedrivers')

BRICK_SIGNATURES = {
    'factory': (
        ('protocol', 'root_helper', 'driver', 'use_multipath', 'device_scan_attempts', 'arch'),
        {'driver': None, 'use_multipath': False, 'device_scan_attempts': 3, 'arch': None},
    ),
    'connect_volume': (('connection_properties',), {}),
    'disconnect_volume': (
        ('connection_properties', 'device_info', 'force', 'ignore_errors'),
        {'force': False, 'ignore_errors': False},
    ),
    'extend_volume': (('connection_properties',), {}),
}
DEFAULT_SCRIPT = {
    'factory': [{'return': None}],
    'connect_volume': [{'return': {'type': 'block', 'path': '/dev/sdx'}}],
    'disconnect_volume': [{'return': None}],
    'extend_volume': [{'return': 2147483648}],
}


def plain(v):
    """A JSON-able deep copy."""
    if isinstance(v, dict):
        return {str(k): plain(x) for k, x in v.items()}
    if isinstance(v, (list, tuple)):
        return [plain(x) for x in v]
    if v is None or isinstance(v, (str, int, float, bool)):
        return v
    if isinstance(v, (set, frozenset)):
        return sorted(plain(x) for x in v)
    if isinstance(v, bytes):
        return {'$bytes': v.hex()}
    return {'$opaque': type(v).__name__}


def bind(call, args, kwargs):
    """Positional + keyword arguments -> named, with os-brick's defaults."""
    names, defaults = BRICK_SIGNATURES[call]
    out = dict(defaults)
    out.update(zip(names, args))
    if len(args) > len(names):
        out['*args'] = list(args[len(names) :])
    out.update(kwargs)
    return plain(out)


def resolve(dotted):
    mod, _, name = dotted.rpartition('.')
    try:
        return getattr(importlib.import_module(mod), name)
    except (ImportError, AttributeError, ValueError):
        return type(name, (Exception,), {'__module__': mod})


def make_exception(spec):
    cls = resolve(spec['type'])
    kwargs = spec.get('kwargs') or {}
    msg = spec.get('message')
    try:
        exc = cls(**kwargs) if msg is None else cls(msg, **kwargs)
    except TypeError:
        exc = cls(msg or '')
    exc._scripted = msg is not None
    return exc


class Connector:
    """What the faked factory hands out."""

    def __init__(self, world, ident, bound):
        self._world, self._ident, self._bound = world, ident, bound
        self.use_multipath = bound.get('use_multipath')
        self.device_scan_attempts = bound.get('device_scan_attempts')

    def connect_volume(self, *args, **kwargs):
        return self._world._brick_call('connect_volume', self._ident, args, kwargs)

    def disconnect_volume(self, *args, **kwargs):
        return self._world._brick_call('disconnect_volume', self._ident, args, kwargs)

    def extend_volume(self, *args, **kwargs):
        return self._world._brick_call('extend_volume', self._ident, args, kwargs)


class Secret:
    """Looks like a libvirt.virSecret as far as a UUID is concerned."""

    def __init__(self, uuid):
        self._uuid = uuid

    def UUIDString(self):
        return self._uuid


class CommandFailed(Exception):
    """Internal: turned into the caller's flavour of exception."""

    def __init__(self, argv, exit_code, stderr):
        super().__init__(stderr)
        self.argv, self.exit_code, self.stderr = argv, exit_code, stderr


class World:
    def __init__(self, spec=None, conf=None):
        self.spec = copy.deepcopy(spec or {})
        self.brick, self.ops, self.lookups = [], [], []
        self.secrets = dict(self.spec.get('secrets') or {})
        self.mounts = [list(m) for m in self.spec.get('mounts') or []]
        self.guests = self.spec.get('guests') or []
        self.arch = self.spec.get('arch', 'x86_64')
        self.systemd = dict(
            {'pid1': 'init', 'run_dir': False, 'state': 'offline'},
            **(self.spec.get('systemd') or {}),
        )
        self._fail = [dict(f) for f in self.spec.get('exec') or []]
        script = self.spec.get('os_brick') or {}
        self._script = {k: list(script.get(k) or v) for k, v in DEFAULT_SCRIPT.items()}
        self._unsupported = set(script.get('unsupported') or [])
        self._connectors = 0
        self.dirs = {'/'}
        for m in self.mounts:
            self._add_dir(m[1])
        for k, v in (conf or {}).items():
            if k.endswith('mount_point_base') and v:
                self._add_dir(v)
        for p in FAKE_ROOTS:
            self._add_dir(p)
        self._real = {}

    # -- the os-brick side -------------------------------------------------
    def factory(self, *args, **kwargs):
        ident = self._connectors
        bound = bind('factory', args, kwargs)
        entry = {
            'call': 'factory',
            'connector': ident,
            'args': plain(args),
            'kwargs': plain(kwargs),
        }
        self.brick.append(entry)
        step = self._next('factory')
        if str(bound.get('protocol')).upper() in self._unsupported:
            step = {
                'raise': {
                    'type': 'os_brick.exception.InvalidConnectorProtocol',
                    'message': 'scripted',
                }
            }
        if step.get('raise'):
            entry['raised'] = step['raise']['type']
            raise make_exception(step['raise'])
        self._connectors += 1
        return Connector(self, ident, bound)

    def _next(self, call):
        steps = self._script[call]
        return steps.pop(0) if len(steps) > 1 else steps[0]

    def _brick_call(self, call, ident, args, kwargs):
        entry = {'call': call, 'connector': ident, 'args': plain(args), 'kwargs': plain(kwargs)}
        self.brick.append(entry)
        step = self._next(call)
        props = args[0] if args else kwargs.get('connection_properties')
        if step.get('mutates') and isinstance(props, dict):
            props.update(copy.deepcopy(step['mutates']))
        if step.get('raise'):
            entry['raised'] = step['raise']['type']
            raise make_exception(step['raise'])
        return copy.deepcopy(step.get('return'))

    # -- libvirt secrets ---------------------------------------------------
    def find_secret(self, usage_type, usage_id):
        self.lookups.append({'call': 'find_secret', 'type': usage_type, 'id': plain(usage_id)})
        if usage_type == 'volume' and usage_id in self.secrets:
            return Secret(self.secrets[usage_id])
        return None

    def create_secret(self, usage_type, usage_id, password=None, **kw):
        self.lookups.append(
            {
                'call': 'create_secret',
                'type': usage_type,
                'id': plain(usage_id),
                'password': plain(password),
            }
        )
        self.secrets[usage_id] = '00000000-0000-4000-8000-%012d' % (len(self.secrets) + 1)
        return Secret(self.secrets[usage_id])

    def delete_secret(self, usage_type, usage_id):
        self.lookups.append({'call': 'delete_secret', 'type': usage_type, 'id': plain(usage_id)})
        self.secrets.pop(usage_id, None)

    # -- the mount table and commands --------------------------------------
    def _add_dir(self, path):
        while path and path not in self.dirs:
            self.dirs.add(path)
            path = os.path.dirname(path)

    def ismount(self, path):
        return any(m[1] == str(path) for m in self.mounts)

    def makedirs(self, path):
        self.ops.append({'op': 'makedirs', 'path': str(path)})
        self._add_dir(str(path))

    def rmdir(self, path):
        self.ops.append({'op': 'rmdir', 'path': str(path)})
        if str(path) not in self.dirs:
            raise FileNotFoundError(2, 'No such file or directory', path)
        self.dirs.discard(str(path))

    def execute(self, argv):
        """Run a command: (stdout, stderr), or CommandFailed."""
        argv = [str(a) for a in argv]
        self.ops.append({'op': 'exec', 'argv': argv})
        words = [a for a in argv if a not in ('sudo', 'systemd-run', '--scope', '--user')]
        if words and words[0] == 'nova-rootwrap':
            words = words[2:]
        prog = os.path.basename(words[0])
        for f in self._fail:
            if f['argv0'] == prog and f.get('times', 1):
                f['times'] = f.get('times', 1) - 1
                if f.get('mounted_anyway'):
                    self.mounts.append(['other', words[-1], 'other'])
                raise CommandFailed(argv, f.get('exit_code', 32), f.get('stderr', ''))
        if prog == 'mount':
            fstype = words[words.index('-t') + 1] if '-t' in words else 'auto'
            self.mounts.append([words[-2], words[-1], fstype])
            self._add_dir(words[-1])
        elif prog == 'mount.quobyte':
            rest = words[1:]
            if '-c' in rest:
                i = rest.index('-c')
                del rest[i : i + 2]
            rest = [w for w in rest if not w.startswith('-')]
            self.mounts.append(['quobyte@' + rest[0], rest[1], 'fuse.quobyte'])
            self._add_dir(rest[1])
        elif prog == 'umount':
            target = words[-1]
            if not self.ismount(target):
                raise CommandFailed(argv, 32, 'umount: %s: not mounted.' % target)
            for i in range(len(self.mounts) - 1, -1, -1):
                if self.mounts[i][1] == target:
                    del self.mounts[i]
                    break
        elif prog == 'systemctl':
            return self.systemd['state'] + '\n', ''
        return '', ''

    def proc_mounts(self):
        alt = self.spec.get('proc_mounts_as') or {}
        return ''.join(
            '%s %s %s rw 0 0\n' % (alt.get(m[1], m[0]), m[1], m[2]) for m in self.mounts
        )

    # -- patches -----------------------------------------------------------
    def _mine(self, path):
        try:
            p = os.fspath(path)
        except TypeError:
            return False
        if isinstance(p, bytes):
            return False
        return p == '/run/systemd/system' or any(
            p == r or p.startswith(r + '/') for r in FAKE_ROOTS
        )

    def _stat(self, path, *a, **kw):
        if not self._mine(path):
            return self._real['stat'](path, *a, **kw)
        p = os.fspath(path)
        ok = self.systemd['run_dir'] if p == '/run/systemd/system' else p in self.dirs
        if not ok:
            raise FileNotFoundError(2, 'No such file or directory', p)
        size = (self.spec.get('stat_size') or {}).get(p, 0)
        if size == -1:
            raise OSError(107, 'Transport endpoint is not connected', p)
        return os.stat_result((stat_mod.S_IFDIR | 0o755, 1, 1, 1, 0, 0, size, 0, 0, 0))

    @contextlib.contextmanager
    def installed(self):
        real = self._real = {
            'stat': os.stat,
            'lstat': os.lstat,
            'mkdir': os.mkdir,
            'makedirs': os.makedirs,
            'rmdir': os.rmdir,
            'ismount': os.path.ismount,
            'open': builtins.open,
        }

        def lstat(path, *a, **kw):
            return self._stat(path) if self._mine(path) else real['lstat'](path, *a, **kw)

        def ismount(path):
            return self.ismount(path) if self._mine(path) else real['ismount'](path)

        def mkdir(path, *a, **kw):
            if not self._mine(path):
                return real['mkdir'](path, *a, **kw)
            self.makedirs(path)

        def makedirs(path, *a, **kw):
            if not self._mine(path):
                return real['makedirs'](path, *a, **kw)
            self.makedirs(path)

        def rmdir(path, *a, **kw):
            if not self._mine(path):
                return real['rmdir'](path, *a, **kw)
            self.rmdir(path)

        def open_(file, *a, **kw):
            if file in ('/proc/mounts', '/proc/self/mounts', '/etc/mtab'):
                return io.StringIO(self.proc_mounts())
            return real['open'](file, *a, **kw)

        def oslo_execute(*cmd, **kw):
            try:
                return self.execute(cmd)
            except CommandFailed as e:
                from oslo_concurrency import processutils

                ok = kw.get('check_exit_code', [0])
                if isinstance(ok, (list, tuple)) and e.exit_code in ok:
                    return '', e.stderr
                raise processutils.ProcessExecutionError(
                    stdout='', stderr=e.stderr, exit_code=e.exit_code, cmd=' '.join(cmd)
                ) from None

        def sp_run(cmd, *a, check=False, text=None, universal_newlines=None, **kw):
            textual = text or universal_newlines or kw.get('encoding')
            conv = (lambda s: s) if textual else (lambda s: s.encode())
            try:
                out, err = self.execute(cmd)
            except CommandFailed as e:
                if check:
                    raise subprocess.CalledProcessError(
                        e.exit_code, cmd, conv(''), conv(e.stderr)
                    ) from None
                return subprocess.CompletedProcess(cmd, e.exit_code, conv(''), conv(e.stderr))
            return subprocess.CompletedProcess(cmd, 0, conv(out), conv(err))

        with contextlib.ExitStack() as st:
            p = lambda *a, **k: st.enter_context(mock.patch(*a, **k))  # noqa: E731
            p('os.stat', self._stat)
            p('os.lstat', lstat)
            p('os.mkdir', mkdir)
            p('os.makedirs', makedirs)
            p('os.rmdir', rmdir)
            p('os.path.ismount', ismount)
            p('builtins.open', open_)
            p('platform.machine', lambda: self.arch)
            p('subprocess.run', sp_run)
            p('subprocess.check_call', lambda c, *a, **k: sp_run(c, check=True).returncode)
            p('subprocess.call', lambda c, *a, **k: sp_run(c).returncode)
            p('subprocess.check_output', lambda c, *a, **k: sp_run(c, check=True, **k).stdout)
            with contextlib.suppress(ImportError):
                importlib.import_module('os_brick.initiator.connector')
                p(
                    'os_brick.initiator.connector.InitiatorConnector.factory',
                    staticmethod(self.factory),
                )
            with contextlib.suppress(ImportError):
                importlib.import_module('oslo_concurrency.processutils')
                p('oslo_concurrency.processutils.execute', oslo_execute)
            with contextlib.suppress(ImportError):
                psutil = importlib.import_module('psutil')
                real_name = psutil.Process.name
                p(
                    'psutil.Process.name',
                    lambda s: self.systemd['pid1'] if s.pid == 1 else real_name(s),
                )
                part = lambda m: type(
                    'part',
                    (),
                    {  # noqa: E731
                        'device': m[0],
                        'mountpoint': m[1],
                        'fstype': m[2],
                        'opts': '',
                    },
                )()
                p('psutil.disk_partitions', lambda all=False: [part(m) for m in self.mounts])
            yield self
