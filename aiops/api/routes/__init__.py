"""One module a resource; each has ``router(services) -> APIRouter`` and is found by listing this package."""
