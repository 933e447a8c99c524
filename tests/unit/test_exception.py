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

import copy
import inspect
import pickle
import re
import typing

import pytest

from volumedrivers import exception


def _classes():
    return [
        cls
        for _, cls in inspect.getmembers(exception, inspect.isclass)
        if issubclass(cls, exception.VolumeDriversError)
    ]


def _make(cls):
    values = {}
    for name in cls._required:
        kind = next(
            typing.get_type_hints(base)[name]
            for base in cls.__mro__
            if name in inspect.get_annotations(base)
        )
        values[name] = 5 if kind in (int, float) else f'the {name}'
    return cls(**values)


def test_the_docstring_draws_the_tree_that_is_there():
    drawn, above = {}, []
    for line in exception.__doc__.splitlines():
        found = re.match(r'^    ((?:[|`]   |    |\|-- |`-- )*)([A-Z]\w+)', line)
        if found:
            depth = len(found[1]) // 4
            drawn[found[2]] = above[depth - 1] if depth else None
            above[depth:] = [found[2]]
    assert drawn == {
        cls.__name__: cls.__base__.__name__ if cls.__base__ is not Exception else None
        for cls in _classes()
    }


def test_the_docstring_tells_the_exit_codes():
    told = dict(re.findall(r'^    [|`]-- (\w+)\s+(\d)', exception.__doc__, re.MULTILINE))
    assert {name: int(code) for name, code in told.items()} == {
        cls.__name__: cls.exit_code
        for cls in _classes()
        if cls.__base__ is exception.VolumeDriversError
    }
    assert len(set(told.values())) == len(told)


@pytest.mark.parametrize('cls', _classes(), ids=lambda cls: cls.__name__)
def test_every_error_renders_its_data_and_crosses_processes(cls):
    error = _make(cls)
    for name in cls._required:
        assert getattr(error, name) == error.details[name]
    assert '{' not in str(error)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), cls(*error.args)):
        assert type(again) is cls
        assert again.details == error.details
        assert str(again) == str(error)


def test_a_typo_is_refused_where_the_error_is_made():
    with pytest.raises(TypeError, match=r"unknown \['reson'\], missing \['reason'\]"):
        exception.Busy(what='a', reson='b')


def test_a_template_may_only_use_what_its_class_declares():
    with pytest.raises(TypeError, match='nowhere'):

        class _Wrong(exception.BadInput):
            template = '{nowhere}'
