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

"""Groups [cinder] and [service_user] of the configuration, as the SDK takes them.

The names are keystoneauth's, as in nova.conf, so that its groups can be
pasted; what Nova has besides and which says where Cinder is, counts as well.
"""

from collections.abc import Iterable
import os
import re
import typing

from oslo_config import cfg

from volumedrivers import exception
from volumedrivers.conf import cinder as conf_cinder

if typing.TYPE_CHECKING:
    from keystoneauth1 import plugin
    from openstack.config import cloud_region

CINDER: typing.Final = 'cinder'
SERVICE_USER: typing.Final = 'service_user'
_SOURCE = f'group [{CINDER}]'
_SERVICE = 'block_storage'
# publicURL is how catalog_info of Nova calls an interface.
_URL = re.compile(r'URL$')
_FILES = ('cafile', 'certfile', 'keyfile')


def cinder(conf: cfg.ConfigOpts) -> 'tuple[cloud_region.CloudRegion, str] | None':
    """Return what group [cinder] says, and what it is called in errors; None: nothing.

    :raises CinderNotConfigured: names the option
    """
    from keystoneauth1 import loading  # noqa: PLC0415 - slow to import
    from openstack.config import cloud_region  # noqa: PLC0415

    _register(conf, CINDER, conf_cinder.OF_NOVA)
    group = conf[CINDER]
    where = _where(group)
    auth = _auth(conf, CINDER)
    if auth is None:
        if group.auth_section:
            raise _wrong(
                CINDER, f'group [{group.auth_section}], which auth_section names, has no auth_type'
            )
        if any(where.values()):
            raise _wrong(
                CINDER,
                'auth_type is not set; set it to password, or to none where Cinder wants no user',
            )
        return None
    where['endpoint_override'] = where['endpoint_override'] or getattr(auth, 'endpoint', None)
    for name in _FILES:
        if group[name] and not os.path.isfile(group[name]):
            raise _wrong(CINDER, f'{name} is {group[name]}, which is no file')
    session = _told(
        CINDER, lambda: loading.load_session_from_conf_options(conf, CINDER, auth=auth)
    )
    found = {f'{_SERVICE}_{name}': value for name, value in where.items() if value}
    region = cloud_region.from_session(session, name=_SOURCE, **found)
    region.config['api_timeout'] = group.timeout
    return region, _SOURCE


def service_auth(conf: cfg.ConfigOpts) -> 'plugin.BaseAuthPlugin | None':
    """Return how group [service_user] gets its token; None: none is to be sent.

    :raises CinderNotConfigured: names the option
    """
    _register(conf, SERVICE_USER, conf_cinder.OF_SERVICE_USER)
    if not _told(SERVICE_USER, lambda: conf[SERVICE_USER].send_service_user_token):
        return None
    auth = _auth(conf, SERVICE_USER)
    if auth is None:
        raise _wrong(
            SERVICE_USER,
            'send_service_user_token is true, and auth_type is not set; set it to password, '
            'with the user that has the role service',
        )
    return auth


def _where(group: typing.Any) -> dict[str, typing.Any]:
    _, name, interface = (*(group.catalog_info or '').split(':'), '', '', '')[:3]
    interfaces = group.valid_interfaces or [_URL.sub('', interface)]
    return {
        'endpoint_override': group.endpoint_override or group.endpoint_template,
        'region_name': group.region_name or group.os_region_name,
        'interface': [one for one in interfaces if one],
        'service_name': group.service_name or name,
        'service_type': group.service_type,
    }


def _auth(conf: cfg.ConfigOpts, group: str) -> 'plugin.BaseAuthPlugin | None':
    from keystoneauth1 import loading  # noqa: PLC0415

    def load() -> typing.Any:
        _tolerant(lambda: loading.register_auth_conf_options(conf, group))
        return loading.load_auth_from_conf_options(conf, group)

    return typing.cast('plugin.BaseAuthPlugin | None', _told(group, load))


def _register(conf: cfg.ConfigOpts, group: str, more: Iterable[cfg.Opt]) -> None:
    from keystoneauth1 import loading  # noqa: PLC0415

    for option in (
        *loading.get_session_conf_options(),
        *loading.get_adapter_conf_options(include_deprecated=False),
        *more,
    ):
        _tolerant(lambda option=option: conf.register_opt(option, group=group))


def _tolerant(register: typing.Any) -> None:
    """Register, where the process whose configuration it is has not done it in other words."""
    try:
        register()
    except cfg.DuplicateOptError:
        return


def _told(group: str, call: typing.Any) -> typing.Any:
    from keystoneauth1 import exceptions as keystoneauth  # noqa: PLC0415

    try:
        return call()
    except exception.VolumeDriversError:
        raise
    except cfg.ConfigFileValueError as error:
        # It has the value, which can be a password.
        found = re.search(r'option (\S+)', str(error))
        name = found[1] if found else 'an option'
        raise _wrong(group, f'{name} has a value of another type') from None
    except (keystoneauth.ClientException, cfg.Error, TypeError, ValueError) as error:
        raise _wrong(group, ' '.join(str(error).split())) from error


def _wrong(group: str, reason: str) -> exception.CinderNotConfigured:
    return exception.CinderNotConfigured(reason=f'group [{group}] of the configuration: {reason}')
