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

"""How Cinder is asked; where it is, clouds.yaml, OS_* or group [cinder] says.

What keystoneauth reads of groups [cinder] and [service_user] is described here
as well, for the sample configuration; it registers its own.
"""

from oslo_config import cfg

from volumedrivers.conf.prose import prose

OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.StrOpt(
        'cinder_cloud',
        help=prose(
            """
Name of the cloud in clouds.yaml whose block storage is used.  Not set: the
environment (OS_CLOUD, OS_AUTH_URL ...) counts, and where that says nothing,
group [cinder].  The command line's --os-cloud comes first.
"""
        ),
    ),
    cfg.IntOpt(
        'cinder_retries',
        default=3,
        min=0,
        max=20,
        help=prose(
            """
How often a request to Cinder is sent again that had no answer, or one of
status 408, 429, 500, 502, 503 or 504.  Only what may be done twice is: reading,
updating and deleting an attachment.  The pause before is 0.5 s, and doubled
each time; where Cinder says how long to wait (Retry-After), it is at least
that.  Nothing is sent again later than cinder_timeout seconds after the first
time.  The retries that clouds.yaml or group [cinder] can set are switched off:
they would repeat every request.
"""
        ),
    ),
    cfg.FloatOpt(
        'cinder_timeout',
        default=120.0,
        min=1.0,
        help=prose(
            """
Seconds that Cinder may take to answer one request.  Exporting a volume is one
request, and takes a back end that has to zone a fabric its time; a shorter
one gives up what is being done, and lets recover find out.  A shorter
api_timeout of clouds.yaml, or timeout of group [cinder], counts instead.
"""
        ),
    ),
    cfg.FloatOpt(
        'cinder_extend_timeout',
        default=600.0,
        min=1.0,
        help=prose(
            """
Seconds that Cinder may take to extend a volume.  Afterwards it is not waited
for any more, and goes on all the same: extending the volume once more waits
again, and lets the guests see the new size.
"""
        ),
    ),
    cfg.FloatOpt(
        'cinder_share_timeout',
        default=60.0,
        min=0.0,
        help=prose(
            """
Seconds that a volume that several guests may have is waited for while Cinder
attaches it to another one, detaches it from it, or extends it.  Afterwards the
volume is busy, and the operation has to be started again.
"""
        ),
    ),
    cfg.BoolOpt(
        'cinder_instance',
        default=True,
        help=prose(
            """
Name the guest's UUID as the instance of an attachment, as Nova does.  Cinder
then shows it, and tells Nova when the volume grows.  But it lets only a user
with the service role take such an attachment away (bug 2004555): configure
group [service_user], or set this to false where there is no Nova.
"""
        ),
    ),
)

CINDER_GROUP = cfg.OptGroup('cinder', title='Where Cinder is, and as whom it is asked')
SERVICE_GROUP = cfg.OptGroup('service_user', title='The service that requests come from')

# In Nova's group of that name, and they say where Cinder is.
OF_NOVA: tuple[cfg.Opt, ...] = (
    cfg.StrOpt(
        'catalog_info',
        help=prose(
            """
Where Nova has valid_interfaces and service_name: <service type>:<service
name>:<interface>, such as volumev3::internalURL.  It counts where those are
not set.
"""
        ),
    ),
    cfg.StrOpt(
        'endpoint_template',
        help=prose(
            """
Where Nova has endpoint_override, such as
http://block.example.com:8776/v3/%(project_id)s.  It counts where that is not
set.
"""
        ),
    ),
    cfg.StrOpt(
        'os_region_name',
        help=prose('Where Nova has region_name.  It counts where that is not set.'),
    ),
)

OF_SERVICE_USER: tuple[cfg.Opt, ...] = (
    cfg.BoolOpt(
        'send_service_user_token',
        default=False,
        help=prose(
            """
Send the token of this user (X-Service-Token) with every request to Cinder,
also to a cloud of clouds.yaml.  Cinder lets only a user with the role service
take away an attachment that names an instance (bug 2004555); without this,
detaching such a volume ends in ServiceRoleNeeded.
"""
        ),
    ),
)


def _described(*more: cfg.Opt, whose: str) -> tuple[cfg.Opt, ...]:
    """Return what keystoneauth reads of a group, as far as most need it."""
    return (
        cfg.StrOpt(
            'auth_type',
            help=prose(
                """
Name of keystoneauth's plug-in: password, v3applicationcredential, ...; or
none, for a Cinder that asks for no user.  Each has options of its own, of
which those of password are below.
"""
            ),
        ),
        cfg.StrOpt(
            'auth_section',
            help=prose('Group that has the options of the plug-in, if this one has not.'),
        ),
        cfg.StrOpt('auth_url', help=prose('URL of Keystone, such as https://cloud/identity.')),
        cfg.StrOpt('username', help=prose('Name of the user, unless user_id is set.')),
        cfg.StrOpt('user_domain_name', help=prose('Domain of the user, such as Default.')),
        cfg.StrOpt('password', secret=True, help=prose(f'Password of {whose}.')),
        cfg.StrOpt('project_name', help=prose('Project of the user, unless project_id is set.')),
        cfg.StrOpt('project_domain_name', help=prose('Domain of the project.')),
        cfg.StrOpt('cafile', help=prose('File with the certificates (PEM) that are trusted.')),
        cfg.StrOpt('certfile', help=prose("File with the client's certificate (PEM).")),
        cfg.StrOpt('keyfile', help=prose("File with the client's key (PEM).")),
        cfg.BoolOpt(
            'insecure',
            default=False,
            help=prose('Trust any certificate: whoever is in between can read the passwords.'),
        ),
        *more,
    )


#: only described; keystoneauth registers them
CINDER_DESCRIBED: tuple[cfg.Opt, ...] = (
    *_described(
        cfg.FloatOpt(
            'timeout',
            help=prose(
                'Seconds to wait for an answer; a value above cinder_timeout counts as that.'
            ),
        ),
        cfg.StrOpt('region_name', help=prose('Region of the catalog whose Cinder is meant.')),
        cfg.ListOpt(
            'valid_interfaces',
            help=prose('Interfaces of the catalog, the best first, such as internal,public.'),
        ),
        cfg.StrOpt('service_type', help=prose('Type in the catalog, if it is another one.')),
        cfg.StrOpt('service_name', help=prose('Name in the catalog, where a type has several.')),
        cfg.StrOpt(
            'endpoint_override',
            help=prose(
                """
URL of Cinder, such as http://127.0.0.1:8776/v3, instead of that of the
catalog; with or without the version.
"""
            ),
        ),
        whose='the user',
    ),
    *OF_NOVA,
)
SERVICE_DESCRIBED: tuple[cfg.Opt, ...] = (
    *OF_SERVICE_USER,
    *_described(whose='the user that has the role service'),
)
