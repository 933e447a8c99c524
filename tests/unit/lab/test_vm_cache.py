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

"""What the lab keeps between runs, and by which key."""

from collections.abc import Callable
import fcntl
import pathlib
import subprocess
import sys
import threading

import pytest

from tests.lab.vm import imports
from tests.lab.vm import wheel
from tests.lab.vm.cache import IN_USE
from tests.lab.vm.cache import Cache
from tests.lab.vm.cache import content_of
from tests.lab.vm.cache import default_root
from tests.lab.vm.cache import key_of


@pytest.fixture
def cache(tmp_path: pathlib.Path) -> Cache:
    return Cache(tmp_path / 'cache')


def _making(text: str, made: list[str]) -> Callable[[pathlib.Path], None]:
    def make(directory: pathlib.Path) -> None:
        made.append(text)
        (directory / 'content').write_text(text)

    return make


def test_an_entry_is_made_once(cache: Cache) -> None:
    made: list[str] = []
    first = cache.get('image', 'k', _making('a', made))
    again = cache.get('image', 'k', _making('b', made))
    assert (first, made) == (again, ['a'])
    assert (first / 'content').read_text() == 'a'


def test_an_entry_that_fails_is_not_there(cache: Cache) -> None:
    def fail(directory: pathlib.Path) -> None:
        (directory / 'half').touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.get('image', 'k', fail)
    assert cache.find('image', 'k') is None
    assert not [path for path in cache.root.iterdir() if path.is_dir()]


def test_two_builders_do_not_collide(tmp_path: pathlib.Path) -> None:
    made: list[str] = []
    waited: list[bool] = []
    begun = threading.Event()
    finish = threading.Event()

    def slow(directory: pathlib.Path) -> None:
        begun.set()
        finish.wait(30)
        _making('first', made)(directory)

    def told() -> None:
        waited.append(True)
        finish.set()

    first = threading.Thread(target=lambda: Cache(tmp_path).get('image', 'k', slow))
    first.start()
    begun.wait(30)
    Cache(tmp_path, told).get('image', 'k', _making('second', made))
    first.join()
    assert (made, waited) == (['first'], [True])


def test_another_kind_need_not_wait(cache: Cache) -> None:
    def nested(directory: pathlib.Path) -> None:
        cache.get('wheel', 'w', _making('inner', []))

    cache.get('image', 'k', nested)
    assert cache.find('wheel', 'w')


def test_old_entries_go_but_not_one_in_use(cache: Cache) -> None:
    oldest = cache.get('image', '1', _making('1', []))
    with (oldest / IN_USE).open('rb') as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        for key in ('2', '3', '4'):
            cache.get('image', key, _making(key, []))
        left = {path.name for path in cache.root.glob('image-*')}
        assert left == {'image-1', 'image-3', 'image-4'}
        assert cache.clean() == ['image-1']
    assert cache.clean() == []
    assert not list(cache.root.glob('image-*'))


def test_a_lock_lasts_as_long_as_the_process_that_inherited_it(cache: Cache) -> None:
    entry = cache.get('image', 'k', _making('a', []))
    with (entry / IN_USE).open('rb') as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        reader = subprocess.Popen(
            [sys.executable, '-c', 'input()'], stdin=subprocess.PIPE, pass_fds=[file.fileno()]
        )
    assert cache.clean() == ['image-k']
    reader.communicate(b'\n')
    assert cache.clean() == []


def test_what_a_killed_build_left_goes(cache: Cache) -> None:
    cache.get('image', '1', _making('1', []))
    (cache.root / 'partial-image-x').mkdir()
    (cache.root / 'partial-wheel-x').mkdir()
    cache.get('image', '2', _making('2', []))
    assert not (cache.root / 'partial-image-x').exists()
    # Of another kind: somebody may be at it.
    assert (cache.root / 'partial-wheel-x').exists()


def test_the_key_tells_apart_what_reads_alike() -> None:
    assert key_of(['ab', 'c']) != key_of(['a', 'bc'])
    assert key_of(['a', b'b']) == key_of([b'a', 'b'])


def test_the_key_follows_names_and_contents(tmp_path: pathlib.Path) -> None:
    files = [tmp_path / 'one', tmp_path / 'two']
    for file in files:
        file.write_text(file.name)
    key = key_of(content_of(files, tmp_path))
    assert key_of(content_of(reversed(files), tmp_path)) == key
    files[0].write_text('changed')
    assert key_of(content_of(files, tmp_path)) != key


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('VOLUMEDRIVERS_LAB_CACHE', '/elsewhere')
    assert default_root() == pathlib.Path('/elsewhere')
    monkeypatch.delenv('VOLUMEDRIVERS_LAB_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', '/cache')
    assert default_root() == pathlib.Path('/cache/volumedrivers/lab')


def test_imports_are_followed_through_others(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, 'PROJECT', tmp_path)
    lab = tmp_path / 'tests' / 'lab'
    (lab / 'part').mkdir(parents=True)
    (lab / 'up.py').write_text('from tests.lab.part import deep\nimport os\nimport other\n')
    (lab / 'part' / '__init__.py').touch()
    (lab / 'part' / 'deep.py').write_text('def f():\n    import tests.lab.up\n')
    (lab / 'unused.py').touch()
    found = {str(path.relative_to(lab)) for path in imports.closure(['tests.lab.up'])}
    assert found == {'up.py', 'part/__init__.py', 'part/deep.py'}


def test_the_wheel_is_of_the_package_alone() -> None:
    names = {path.relative_to(wheel.PROJECT).parts[0] for path in wheel.sources()}
    assert {'volumedrivers', 'setup.cfg', 'etc'} <= names
    assert not names & {'tests', '.venv', 'build', '.git'}
