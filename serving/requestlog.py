"""One line in the log for each request, without its texts."""

import logging

from serving.exchange import Exchange

logger = logging.getLogger("fairlead.serving")


class RequestLog:
    """Writes the lines."""

    def began(self, exchange: Exchange) -> None:
        """Nothing to say yet."""

    def asked(self, exchange: Exchange) -> None:
        """Nothing to say yet."""

    def ended(self, exchange: Exchange) -> None:
        """Say how the request ended."""
        seconds = exchange.ended - exchange.started
        if exchange.answered is None:
            logger.info(
                "refused door=%s status=%d seconds=%.4f: %s", exchange.door, exchange.status, seconds, exchange.error
            )
            return
        stamp = exchange.answered.stamp
        logger.info(
            "prediction id=%s version=%s digest=%s variant=%s texts=%d seconds=%.4f",
            stamp.prediction_id,
            stamp.manifest.name,
            stamp.manifest.digest,
            stamp.variant,
            len(exchange.answered.answers),
            seconds,
        )
