"""Replay one case through an adapter, and write down what it did."""

import copy
import hashlib
import types
import xml.etree.ElementTree as ET

from world import World, plain


def canon(xml):
    """Canonical XML (C14N 2.0) without the whitespace of pretty-printing."""
    if xml is None:
        return None
    if not isinstance(xml, (str, bytes, bytearray)):
        try:
            from lxml import etree

            xml = etree.tostring(xml)
        except (ImportError, TypeError):
            xml = ET.tostring(xml)
    if isinstance(xml, (bytes, bytearray)):
        xml = bytes(xml).decode('utf-8')
    root = ET.fromstring(xml)
    for el in root.iter():
        if len(el) and el.text is not None and not el.text.strip():
            el.text = None
        if el.tail is not None and not el.tail.strip():
            el.tail = None
    return ET.canonicalize(ET.tostring(root, encoding='unicode'))


def describe_exception(exc):
    """Type, ancestry, and what was interpolated in the message.

    The wording itself is kept only where it is Python's, lxml's or the fake
    world's: another project's sentences stay out (a digest tells whether two
    are the same)."""
    cls = type(exc)
    text = str(exc)
    keep = getattr(exc, '_scripted', False) or cls.__module__ in ('builtins', 'lxml.etree')
    kwargs = getattr(exc, 'kwargs', None)
    kwargs = {k: v for k, v in kwargs.items() if k != 'code'} if isinstance(kwargs, dict) else {}
    for attr in ('exit_code', 'returncode', 'stderr'):
        if isinstance(getattr(exc, attr, None), (int, str)):
            kwargs[attr] = getattr(exc, attr)
    return {
        'type': cls.__module__ + '.' + cls.__qualname__,
        'bases': [
            c.__module__ + '.' + c.__qualname__
            for c in cls.__mro__[1:]
            if c not in (object, BaseException)
        ],
        'message': text if keep else None,
        'scripted': hasattr(exc, '_scripted'),
        'message_sha256': hashlib.sha256(text.encode()).hexdigest(),
        'kwargs': plain(kwargs),
    }


def replay(case, adapter):
    """Run case["steps"]; -> the outcome, in the corpus's own form (SCHEMA.md)."""
    world = World(case.get('world'), case.get('conf'))
    parts = {'': case}
    parts.update(case.get('attachments') or {})
    infos = {k: copy.deepcopy(p.get('connection_info')) for k, p in parts.items()}
    instances = {
        k: types.SimpleNamespace(uuid=p.get('instance_uuid') or case.get('instance_uuid'))
        for k, p in parts.items()
    }
    driver = None
    out = []
    with world.installed():
        setup = getattr(adapter, 'setup', None)
        if setup:
            setup(world)
        try:
            for step in case['steps']:
                on = step.get('on', '')
                marks = len(world.brick), len(world.ops), len(world.lookups)
                res = {'op': step['op'], 'result': None, 'exception': None}
                if on:
                    res['on'] = on
                try:
                    if step['op'] == 'make_driver':
                        driver = adapter.make_driver(case['driver'], copy.deepcopy(case['conf']))
                    elif step['op'] == 'connect':
                        r = adapter.connect(driver, infos[on], instances[on])
                        if isinstance(r, dict):
                            infos[on] = r
                    elif step['op'] == 'get_xml':
                        d = step.get('disk_info', parts[on].get('disk_info'))
                        res['xml'] = canon(adapter.get_xml(driver, infos[on], copy.deepcopy(d)))
                        before = getattr(adapter, 'get_driver_xml', None)
                        if before:
                            x = canon(before(driver, infos[on], copy.deepcopy(d)))
                            if x != res['xml']:
                                res['xml_before_cachemode'] = x
                    elif step['op'] == 'disconnect':
                        kw = {'force': step['force']} if 'force' in step else {}
                        res['result'] = plain(
                            adapter.disconnect(driver, infos[on], instances[on], **kw)
                        )
                    elif step['op'] == 'extend':
                        res['result'] = plain(
                            adapter.extend(
                                driver, infos[on], instances[on], step['requested_size']
                            )
                        )
                    else:
                        hook = getattr(adapter, step['op'], None)
                        if hook is None:
                            res['unsupported'] = True
                        else:
                            res['result'] = plain(
                                hook(driver, infos[on], instances[on], **step.get('args', {}))
                            )
                except Exception as e:
                    res['exception'] = describe_exception(e)
                for c in world.brick[marks[0] :]:
                    c['step'] = len(out)
                res['host_ops'] = plain(world.ops[marks[1] :])
                res['secret_calls'] = plain(world.lookups[marks[2] :])
                res['connection_info'] = plain(infos[on])
                out.append(res)
                if step['op'] == 'make_driver' and res['exception']:
                    break
        finally:
            teardown = getattr(adapter, 'teardown', None)
            if teardown:
                teardown(world)
    after = [r['connection_info'] for r in out if r['op'] == 'connect' and not r.get('on')]
    xmls = [r['xml'] for r in out if r.get('xml')]
    excs = [dict(r['exception'], step=i, op=r['op']) for i, r in enumerate(out) if r['exception']]
    return {
        'results': out,
        'calls_to_os_brick': plain(world.brick),
        'connection_info_after_connect': after[0] if after else None,
        'xml': xmls[0] if xmls else None,
        'exception': excs[0] if excs else None,
        'mounts_at_end': sorted(world.mounts),
    }
