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

"""Where Cinder is, and as whom it is asked: the SDK's connection."""

import os
import typing
import urllib.parse

from volumedrivers import exception
from volumedrivers import secret_names
from volumedrivers.cinder import endpoints
from volumedrivers.cinder.block_storage import BlockStorage

if typing.TYPE_CHECKING:
    from openstack.config import cloud_region
    from oslo_config import cfg

# The SDK would repeat every request, also one that makes something; what may
# be repeated BlockStorage.ask repeats.
_SETTINGS: typing.Final = {
    'block_storage_api_version': '3',
    'block_storage_connect_retries': 0,
    'block_storage_status_code_retries': 0,
}


def connect(conf: 'cfg.ConfigOpts', cloud: str | None = None) -> BlockStorage:
    """Return the Cinder of a cloud; nothing is asked yet.

    The first that is given counts: the argument, option cinder_cloud,
    OS_CLOUD, a cloud that the other OS_* variables describe, group [cinder],
    and a clouds.yaml that has one cloud only.  Where group [service_user] has
    send_service_user_token, its token goes with every request.

    :param conf: has the options of group [volumedrivers] registered
    :param cloud: name in clouds.yaml
    :raises CinderNotConfigured: names what is missing or wrong
    """
    from keystoneauth1 import plugin  # noqa: PLC0415 - slow to import
    from keystoneauth1 import service_token  # noqa: PLC0415
    from openstack import connection  # noqa: PLC0415

    from volumedrivers.cinder import option_groups  # noqa: PLC0415

    options = conf.volumedrivers
    region, source = _region(conf, cloud)
    seconds = [options.cinder_timeout, _seconds(region.config.get('api_timeout'), source)]
    region.config.update(_SETTINGS, api_timeout=min(filter(None, seconds)))
    session = region.get_session()
    url = region.get_endpoint('block-storage')
    if url:
        _require_url(url, source)
        region.config['block_storage_endpoint_override'] = endpoints.asked(url)
    elif isinstance(session.auth, plugin.FixedEndpointPlugin) and not session.auth.endpoint:
        raise exception.CinderNotConfigured(
            reason=f'{source}: with this auth_type there is no catalog; '
            'block_storage_endpoint_override of a cloud, or endpoint_override of group '
            '[cinder], has to be the URL of Cinder'
        )
    session.timeout = region.config['api_timeout']
    service = option_groups.service_auth(conf)
    if service is not None:
        session.auth = service_token.ServiceTokenAuthWrapper(
            user_auth=session.auth, service_auth=service
        )
    return BlockStorage(
        connection.Connection(config=region),
        retries=options.cinder_retries,
        timeout=options.cinder_timeout,
        source=source,
    )


def _region(conf: 'cfg.ConfigOpts', cloud: str | None) -> 'tuple[cloud_region.CloudRegion, str]':
    from volumedrivers.cinder import clouds  # noqa: PLC0415 - imports the SDK
    from volumedrivers.cinder import option_groups  # noqa: PLC0415

    for name, source in (
        (cloud, '--os-cloud'),
        (conf.volumedrivers.cinder_cloud, 'option cinder_cloud'),
        (os.environ.get('OS_CLOUD'), 'OS_CLOUD'),
    ):
        if name:
            return clouds.named(name, source)
    found = clouds.environment() or option_groups.cinder(conf) or clouds.only_one()
    if found is None:
        raise exception.CinderNotConfigured(
            reason='neither --os-cloud, option cinder_cloud nor OS_CLOUD names a cloud of '
            'clouds.yaml, no OS_* variable describes one, and group [cinder] of the '
            'configuration has no auth_type'
        )
    return found


def _require_url(url: str, source: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ('http', 'https') and parts.hostname and parts.port != 0
    except ValueError:
        usable = None
    if not usable:
        raise exception.CinderNotConfigured(
            reason=f'{source}: {secret_names.mask_urls(url)!r} is no URL; expected one such as '
            'http://block.example.com:8776/v3'
        )


def _seconds(value: object, source: str) -> float | None:
    if value in (None, ''):
        return None
    try:
        return float(str(value))
    except ValueError:
        raise exception.CinderNotConfigured(
            reason=f'{source}: api_timeout is {value!r}, which is no number of seconds'
        ) from None
