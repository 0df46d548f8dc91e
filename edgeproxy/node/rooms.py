"""The rooms that the gateway serves: a new API is one folder, and one entry here."""

from edgeproxy.calls.handler import CallsAPI
from edgeproxy.http.endpoint import Endpoint
from edgeproxy.numbers.handler import NumbersAPI
from edgeproxy.partner.handler import PartnerAPI

ROOMS: tuple[type[Endpoint], ...] = (PartnerAPI, NumbersAPI, CallsAPI)
