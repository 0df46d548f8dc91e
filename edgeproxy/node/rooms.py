"""The rooms that the gateway serves, in the order of the pages: a new API is one folder, and one entry here."""

from edgeproxy.calls import openapi as calls
from edgeproxy.calls.handler import CallsAPI
from edgeproxy.dynamic import openapi as dynamic
from edgeproxy.dynamic.handler import Handler
from edgeproxy.http.room import Room
from edgeproxy.numbers import openapi as numbers
from edgeproxy.numbers.handler import NumbersAPI
from edgeproxy.partner import openapi as partner
from edgeproxy.partner.handler import PartnerAPI

ROOMS = (
    Room(dynamic, edge=lambda worker: Handler(worker.store, worker.settings, worker.counts)),
    Room(partner, manage=PartnerAPI),
    Room(numbers, manage=NumbersAPI),
    Room(calls, manage=CallsAPI),
)
