"""Runs as one HTML page that needs no network: ``write_report``."""

from savi.report.html.page import write_report

__all__ = ["write_report"]
