"""Reading configs, of which there are two styles."""


def type_name(cfg: object) -> str:
    """The name under ``type`` of a config; '' where there is none.

    In configs of the new style (``read_base``) the class itself stands there.
    """
    kind = cfg.get("type") if isinstance(cfg, dict) else None
    return kind if isinstance(kind, str) else getattr(kind, "__name__", "")
