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

"""Load os-brick as the package does, before a test imports a part of it."""

from collections.abc import Iterator
import functools
import importlib.metadata
import logging
import os
import pathlib
import signal
import sys
import typing

import pytest

from volumedrivers.host import bootstrap

# Otherwise it brings eventlet into the process that runs the tests.
bootstrap.load_os_brick()

# A shell that starts the tests in the background, or nohup, has these ignored;
# tests of interrupts, and programs that they start, need them as they are for people.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Which cloud a person works with is no business of the tests.
for _name in [name for name in os.environ if name.startswith('OS_')]:
    del os.environ[_name]

# Every Registry looks for plug-ins, and reads the metadata of all packages for
# it; they do not change while the tests run, except where a test adds a path.
_look = importlib.metadata.entry_points


@functools.cache
def _look_once(_path: tuple[str, ...], **wanted: str) -> typing.Any:
    return _look(**wanted)


def _entry_points(**wanted: str) -> typing.Any:
    return _look_once(tuple(sys.path), **wanted)


importlib.metadata.entry_points = _entry_points


_TESTS = pathlib.Path(__file__).parent
# Nova and Cinder have options and objects of the same names in the one place that a
# process has for them.  tests/functional/nova runs these in a process of their own.
WITH_NOVA = (_TESTS / 'unit' / 'nova', _TESTS / 'parity' / 'test_nova_parity.py')
_WITH_CINDER = _TESTS / 'functional' / 'cinder'


def pytest_ignore_collect(
    collection_path: pathlib.Path, config: pytest.Config
) -> typing.Literal[True] | None:
    """Keep Nova out of a process that has the tests with Cinder."""
    if collection_path not in WITH_NOVA:
        return None
    asked = [(config.invocation_params.dir / arg.split('::')[0]).resolve() for arg in config.args]
    return True if any(_WITH_CINDER.is_relative_to(path) for path in asked) else None


_left_out: set[str] = set()


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Note the long tests that are not run."""
    _left_out.update(item.nodeid for item in items if item.get_closest_marker('long'))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that prints the summary, where several run the tests."""
    if hasattr(session.config, 'workeroutput'):
        session.config.workeroutput['left out'] = sorted(_left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: typing.Any) -> None:
    """Take them from one that has ended: they are the same for each."""
    _left_out.update(getattr(node, 'workeroutput', {}).get('left out', ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not run."""
    if _left_out:
        terminalreporter.write_line(
            f'{len(_left_out)} tests marked "long" were left out; '
            '`tools/test.sh --all` runs them as well, and so does `.ci/run`'
        )


@pytest.fixture(autouse=True)
def same_process() -> Iterator[None]:
    """Let a command that a test runs in this process change nothing for the tests after it.

    Those that look for secrets in what is logged would find none, and those that
    are told to end would do it in that command's way.
    """
    loggers = (logging.getLogger(), logging.getLogger('volumedrivers'))
    levels = [logger.level for logger in loggers]
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
