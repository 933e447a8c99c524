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
"""The engine, on documents that exist only here."""

import copy
import pickle
import threading

from lxml import etree
import pytest

from volumedrivers import exception
from volumedrivers.libvirt.xml_document import Child
from volumedrivers.libvirt.xml_document import Children
from volumedrivers.libvirt.xml_document import Document
from volumedrivers.libvirt.xml_document import Flag
from volumedrivers.libvirt.xml_document import Integer
from volumedrivers.libvirt.xml_document import OnOff
from volumedrivers.libvirt.xml_document import String
from volumedrivers.libvirt.xml_document import YesNo


class Wheel(Document):
    TAG = 'wheel'
    size = Integer('@size', minimum=1, maximum=99)
    tyre = String('.')


class Engine(Document):
    TAG = 'engine'
    fuel = String('@fuel', choices=('petrol', 'wind'))
    key = String('key', secret=True)


class Car(Document):
    TAG = 'car'
    name = String('@name')
    sold = YesNo('@sold')
    engine = Child('engine', lambda: Engine)
    wheels = Children('wheel', lambda: Wheel)
    seats = Children('seats/seat', lambda: Seat)
    open_top = Flag('open')
    open_how = String('open/@how')
    lights = OnOff('lights/@on')
    owner = String('owner')
    colour = String('paint/coat/@colour')


class Seat(Document):
    TAG = 'seat'
    price = Integer('price')


FULL = """<car name="a" sold="no">
  <engine fuel="wind"/>
  <wheel size="1">round</wheel>
  <wheel size="2"/>
  <seats>
    <seat>
      <price>5</price>
    </seat>
    <seat/>
  </seats>
  <open how="wide"/>
  <lights on="off"/>
  <owner>me &amp; you</owner>
  <paint>
    <coat colour="red"/>
  </paint>
</car>"""


def full():
    return Car(
        colour='red',
        owner='me & you',
        lights=False,
        open_how='wide',
        open_top=True,
        seats=[Seat(price=5), Seat()],
        wheels=[Wheel(size=1, tyre='round'), Wheel(size=2)],
        engine=Engine(fuel='wind'),
        sold=False,
        name='a',
    )


def test_the_order_is_the_declared_one_whatever_that_of_the_arguments():
    assert full().to_xml() == FULL


def test_what_is_parsed_is_what_was_built():
    car = Car.parse(FULL)
    assert car == full()
    assert car.to_xml() == FULL
    assert car.name == 'a'
    assert car.sold is False
    assert car.engine.fuel == 'wind'
    assert [wheel.size for wheel in car.wheels] == [1, 2]
    assert car.wheels[0].tyre == 'round'
    assert [seat.price for seat in car.seats] == [5, None]
    assert car.open_top is True
    assert car.open_how == 'wide'
    assert car.lights is False
    assert car.owner == 'me & you'
    assert car.colour == 'red'


def test_what_is_not_there_is_none():
    car = Car()
    assert car.to_xml() == '<car/>'
    for name in Car.FIELDS:
        expected = {'open_top': False, 'wheels': (), 'seats': ()}.get(name)
        assert getattr(car, name) == expected


def test_text_bytes_and_elements_are_parsed():
    assert Car.parse(FULL) == Car.parse(FULL.encode()) == Car.parse(etree.fromstring(FULL))


def test_parsing_an_element_leaves_it_as_it_is():
    garage = etree.fromstring('<garage><car name="a"> <open/> </car>tail</garage>')
    before = etree.tostring(garage)
    car = Car.parse(garage[0])
    car.name = 'b'
    assert etree.tostring(garage) == before
    assert car.build().tail is None


def test_a_built_element_is_the_callers():
    car = full()
    car.build().set('name', 'b')
    assert car.name == 'a'


def test_an_unknown_argument_is_a_type_error():
    with pytest.raises(TypeError, match='Car has no field nmae'):
        Car(nmae='a')


def test_an_unknown_attribute_cannot_be_set():
    car = Car()
    with pytest.raises(AttributeError, match='Car has no field nmae'):
        car.nmae = 'a'


@pytest.mark.parametrize(
    ('make', 'where', 'found', 'expected'),
    [
        (lambda: Car(name=5), '@name', '5', 'text'),
        (lambda: Car(name=b'a'), '@name', "b'a'", 'text'),
        (lambda: Car(name='a\x00'), '@name', r"'a\x00'", 'characters that XML 1.0 can hold'),
        (lambda: Car(owner='\x1b[31m'), 'owner', r"'\x1b[31m'", 'characters that XML'),
        (lambda: Car(owner='\ud800'), 'owner', r"'\ud800'", 'characters that XML'),
        (lambda: Car(owner='\ufffe'), 'owner', r"'\ufffe'", 'characters that XML'),
        (lambda: Car(name='a' * 1000 + '\x00'), '@name', '...', 'characters that XML'),
        (lambda: Car(sold='yes'), '@sold', "'yes'", 'yes or no'),
        (lambda: Car(lights=1), 'lights/@on', '1', 'on or off'),
        (lambda: Car(open_top='yes'), 'open', "'yes'", 'True or False'),
        (lambda: Engine(fuel='coal'), '@fuel', "'coal'", 'one of petrol, wind'),
        (lambda: Engine(fuel=[]), '@fuel', '[]', 'one of petrol, wind'),
        (lambda: Wheel(size=0), '@size', '0', 'at least 1'),
        (lambda: Wheel(size=100), '@size', '100', 'at most 99'),
        (lambda: Wheel(size='100'), '@size', "'100'", 'at most 99'),
        (lambda: Wheel(size=True), '@size', 'True', 'a whole number'),
        (lambda: Wheel(size=1.0), '@size', '1.0', 'a whole number'),
        (lambda: Wheel(size='1.0'), '@size', "'1.0'", 'a whole number'),
        (lambda: Wheel(size='1_0'), '@size', "'1_0'", 'a whole number'),
        (lambda: Wheel(size=' 1'), '@size', "' 1'", 'a whole number'),
        (lambda: Wheel(size='1\n'), '@size', r"'1\n'", 'a whole number'),
        (lambda: Wheel(size='\u0661'), '@size', "'\u0661'", 'a whole number'),
        (lambda: Wheel(size=''), '@size', "''", 'a whole number'),
        (lambda: Wheel(size='9' * 5000), '@size', '999', 'a whole number'),
        (lambda: Car(engine=Wheel()), 'engine', 'Wheel()', 'Engine'),
        (lambda: Car(engine='<engine/>'), 'engine', "'<engine/>'", 'Engine'),
        (lambda: Car(wheels=[Wheel(), 'w']), 'wheel', "'w'", 'Wheel'),
        (lambda: Car(wheels=Wheel()), 'wheel', 'Wheel()', 'a list'),
        (lambda: Car(wheels='ab'), 'wheel', "'ab'", 'a list'),
        (lambda: Car(wheels=5), 'wheel', '5', 'a list'),
    ],
)
def test_a_bad_value_is_refused_when_it_is_set(make, where, found, expected):
    with pytest.raises(exception.InvalidDocument) as caught:
        make()
    assert caught.value.where == where
    assert found in caught.value.found
    assert expected in caught.value.expected
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ('xml', 'where', 'found'),
    [
        ('', '.', 'not XML'),
        ('<car', '.', 'not XML'),
        ('<car></bus>', '.', 'not XML'),
        ('<car name="&#0;"/>', '.', 'not XML'),
        ('<?xml version="1.0" encoding="utf-8"?><car/>', '.', 'not XML'),
        (b'\xff\xff', '.', 'not XML'),
        ('<bus/>', '.', '<bus>'),
        ('<car xmlns="http://example.com/"/>', '.', '<{http://example.com/}car>'),
        ('<car sold="maybe"/>', '@sold', "'maybe'"),
        ('<car><lights on="yes"/></car>', 'lights/@on', "'yes'"),
        ('<car><wheel size="big"/></car>', '@size', "'big'"),
        ('<car><wheel/><wheel size=""/></car>', '@size', "''"),
        ('<car><seats><seat><price/></seat></seats></car>', 'price', "''"),
        ('<!DOCTYPE car><car/>', '.', 'a document type declaration'),
        ('<!DOCTYPE car [<!ENTITY a "b">]><car name="&a;"/>', '.', 'a document type'),
        (
            '<!DOCTYPE car [<!ENTITY a SYSTEM "file:///etc/passwd">]><car><owner>&a;</owner></car>',
            '.',
            'a document type',
        ),
    ],
)
def test_a_bad_document_is_refused(xml, where, found):
    with pytest.raises(exception.InvalidDocument) as caught:
        Car.parse(xml)
    assert caught.value.where == where
    assert found in caught.value.found


def test_entities_do_not_grow():
    lines = ''.join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))
    with pytest.raises(exception.InvalidDocument):
        Car.parse(f'<!DOCTYPE car [<!ENTITY e0 "0">{lines}]><car><owner>&e9;</owner></car>')


def test_an_entity_in_an_element_is_refused():
    parser = etree.XMLParser(resolve_entities=False)
    root = etree.fromstring(
        '<!DOCTYPE car [<!ENTITY a "b">]><car><owner>&a;</owner></car>', parser
    )
    with pytest.raises(exception.InvalidDocument, match='an entity'):
        Car.parse(root)


def test_a_choice_that_is_not_known_yet_is_kept():
    engine = Engine.parse('<engine fuel="sun"/>')
    assert engine.fuel == 'sun'
    assert engine.to_xml() == '<engine fuel="sun"/>'


FOREIGN = """<car xmlns:q="http://example.com/" name="a" year="2040">
  <roof heated="yes"/>
  <paint gloss="9">
    <coat colour="red" layer="2"/>
    <coat colour="blue"/>
  </paint>
  <engine fuel="wind" cylinders="0">
    <blade>7</blade>
  </engine>
  <q:note q:by="me">mixed <b>text</b> here</q:note>
  <wheel spokes="8"/>
  <lights on="on">
    <lamp/>
  </lights>
</car>"""


def test_what_is_not_declared_stays_in_its_place():
    car = Car.parse(FOREIGN)
    assert etree.tostring(car.build(), method='c14n2', strip_text=True) == etree.tostring(
        etree.fromstring(FOREIGN), method='c14n2', strip_text=True
    )
    car.colour = 'green'
    car.name = 'b'
    assert car.to_xml() == FOREIGN.replace('"red"', '"green"').replace('"a"', '"b"')


def test_a_new_child_is_placed_among_the_undeclared():
    car = Car.parse('<car><roof/><engine/><boot/><owner>me</owner><flag/></car>')
    car.wheels = [Wheel()]
    car.colour = 'red'
    assert [child.tag for child in car.build()] == [
        'roof',
        'engine',
        'boot',
        'wheel',
        'owner',
        'flag',
        'paint',
    ]


def test_comments_and_blanks_are_left_out_and_text_is_not():
    car = Car.parse('<car>\n<!-- a --><?b c?>\n\t<owner> me <!-- d -->too </owner></car>')
    assert car.owner == ' me too '
    assert car.to_xml() == '<car>\n  <owner> me too </owner>\n</car>'
    element = etree.fromstring('<car><!-- a --><owner>me</owner></car>')
    assert Car.parse(element).to_xml() == '<car>\n  <owner>me</owner>\n</car>'


def test_a_blank_text_is_a_value():
    for text in (' ', '\n', '\t\r\n', ''):
        car = Car(owner=text, name=text)
        again = Car.parse(car.to_xml())
        assert again.owner == text
        assert again.name == text
        assert again == car


def test_none_takes_a_value_away():
    car = full()
    for name in Car.FIELDS:
        setattr(car, name, None)
    assert car.to_xml() == '<car/>'
    for name in Car.FIELDS:
        setattr(car, name, None)
    assert car.to_xml() == '<car/>'


def test_taking_a_value_away_leaves_what_is_beside_it():
    car = Car.parse(FOREIGN)
    car.colour = None
    car.lights = None
    assert '<paint gloss="9">' in car.to_xml()
    assert '<lights>' in car.to_xml()


def test_a_flag_does_not_hang_on_what_is_in_it():
    car = Car(open_top=True, open_how=None)
    assert car.open_top is True
    car.open_how = 'wide'
    car.open_how = None
    assert car.open_top is True
    car.open_top = True
    assert car.to_xml() == '<car>\n  <open/>\n</car>'
    car.open_top = False
    assert car.to_xml() == '<car/>'


def test_own_text_can_be_taken_away():
    wheel = Wheel(size=1, tyre='round')
    wheel.tyre = None
    assert wheel.to_xml() == '<wheel size="1"/>'
    assert wheel.tyre is None


def test_a_number_is_written_as_given():
    assert Wheel(size='007').to_xml() == '<wheel size="007"/>'
    assert Wheel(size='007').size == 7
    assert Wheel(size='0x1F').size == 31
    assert Wheel(size=31).to_xml() == '<wheel size="31"/>'


def test_a_part_is_a_view():
    car = full()
    car.engine.fuel = 'petrol'
    car.wheels[1].size = 3
    assert 'fuel="petrol"' in car.to_xml()
    assert [wheel.size for wheel in car.wheels] == [1, 3]


def test_a_part_belongs_to_one_document():
    engine = Engine(fuel='wind')
    first = Car(engine=engine)
    second = Car(engine=engine)
    second.engine.fuel = 'petrol'
    assert first.engine.fuel == 'wind'
    assert Car(engine=first.engine, wheels=[Wheel()]) == Car(engine=engine, wheels=[Wheel()])
    assert first.engine.fuel == 'wind'
    wheel = Wheel(size=1)
    assert len(Car(wheels=[wheel, wheel]).wheels) == 2


def test_parts_are_replaced_where_they_are():
    car = full()
    car.engine = Engine(fuel='petrol')
    car.engine = car.engine
    car.wheels = [*car.wheels[1:], Wheel(size=9)]
    car.seats = [Seat(price=1)]
    assert [child.tag for child in car.build()] == [
        'engine',
        'wheel',
        'wheel',
        'seats',
        'open',
        'lights',
        'owner',
        'paint',
    ]
    assert [wheel.size for wheel in car.wheels] == [2, 9]
    assert [seat.price for seat in car.seats] == [1]
    car.seats = ()
    car.wheels = ()
    assert 'seat' not in car.to_xml()
    assert 'wheel' not in car.to_xml()


def test_equality():
    assert Car() != Wheel()
    assert Car() != '<car/>'
    assert Car(name='a') != Car(name='b')
    assert Car(wheels=[Wheel(size=1), Wheel(size=2)]) != Car(wheels=[Wheel(size=2), Wheel(size=1)])
    assert Car.parse('<car><open/><owner>a</owner></car>') == Car.parse(
        '<car><owner>a</owner><open/></car>'
    )
    assert Car.parse('<car><roof/></car>') != Car()
    with pytest.raises(TypeError):
        hash(Car())


def test_repr_can_be_read_and_shows_no_secret():
    assert repr(full()) == (
        "Car(name='a', sold=False, engine=Engine(fuel='wind'), "
        "wheels=(Wheel(size=1, tyre='round'), Wheel(size=2)), "
        "seats=(Seat(price=5), Seat()), open_top=True, open_how='wide', lights=False, "
        "owner='me & you', colour='red')"
    )
    assert repr(Engine(key='letmein')) == 'Engine(key=***)'
    with pytest.raises(exception.InvalidDocument) as caught:
        Engine(key='letmein\x00')
    assert 'letmein' not in str(caught.value)
    assert 'letmein' not in repr(caught.value.details)


def test_copies_are_independent():
    car = full()
    for other in (copy.copy(car), copy.deepcopy(car), pickle.loads(pickle.dumps(car))):
        assert other == car
        other.engine.fuel = 'petrol'
        assert car.engine.fuel == 'wind'


def test_a_class_inherits_fields():
    class Lorry(Car):
        TAG = 'lorry'
        load = Integer('load')

    lorry = Lorry(name='a', load=5)
    assert lorry.to_xml() == '<lorry name="a">\n  <load>5</load>\n</lorry>'
    assert 'load' not in Car.FIELDS


def test_threads_parse_and_build_at_once():
    wrong = []

    def work():
        for _ in range(50):
            if Car.parse(FULL).to_xml() != FULL:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
