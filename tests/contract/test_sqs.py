"""Amazon SQS keeps the contract as far as SQS itself goes; what it does not keep is listed here by
name, and each one is shown to be refused, or to be what docs/sqs.md says."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.sqs_server import SqsServer, running_sqs
from tests.support.sqs_store import SqsHarness, SqsStore
from towline_broker.domain.errors import NotSupported
from towline_broker.drivers.interface import Feature
from towline_broker.testing import DriverContract, NewHarness, Store

#: Tests that begin with, or come to, something that the capabilities name as missing.
REFUSED: dict[Feature, tuple[str, ...]] = {
    Feature.PRIORITY: (
        "test_jobs_are_listed_in_push_order_page_by_page",
        "test_p1_a_job_is_stored_as_it_was_pushed",
        "test_p6_a_delayed_job_is_not_leased_before_its_time",
        "test_p6_a_job_that_became_ready_again_keeps_its_priority",
        "test_p6_dead_jobs_are_out_of_the_way",
        "test_p6_higher_priority_leaves_first",
        "test_p6_queues_are_served_in_the_order_given",
        "test_the_longest_waiting_job_is_known_whatever_its_priority",
    ),
    Feature.UNIQUE_KEYS: (
        "test_p3_a_held_key_answers_with_its_holder",
        "test_p3_a_key_belongs_to_its_queue",
        "test_p3_a_key_held_for_a_time_is_free_after_it_though_its_job_waits",
        "test_p3_a_key_held_for_a_time_outlives_its_job",
        "test_p3_a_key_is_held_until_the_job_has_ended",
        "test_p3_a_key_twice_in_one_batch_is_stored_once",
        "test_p3_cancelling_and_purging_free_the_key",
        "test_p3_death_and_expiry_free_the_key",
        "test_p3_discarding_frees_a_key_held_for_a_time",
        "test_p3_forgetting_frees_no_key_that_is_held",
        "test_p3_requeueing_takes_no_key",
        "test_p9_a_refused_batch_leaves_nothing",
    ),
    Feature.EXPIRY: (
        "test_a_reserve_of_no_jobs_changes_nothing",
        "test_p6_an_expired_job_is_out_of_the_way",
        "test_p7_a_dead_job_is_not_leased_or_expired",
        "test_p7_a_filter_finds_what_matches_all_of_it",
        "test_p7_a_job_past_its_validity_is_not_leased_but_dead",
        "test_p7_a_job_that_was_only_released_does_expire",
        "test_p7_a_job_that_was_started_does_not_expire",
        "test_p7_a_leased_job_does_not_expire",
        "test_p7_a_requeued_job_starts_over",
        "test_p7_an_expired_job_can_be_requeued",
        "test_p7_jobs_that_died_together_are_listed_once_page_by_page",
        "test_p7_unstarted_jobs_expire_at_their_time_and_up_to_the_limit",
    ),
    Feature.RETENTION: (
        "test_a_purge_removes_what_waits_and_nothing_else",
        "test_ended_jobs_are_listed_while_they_are_kept",
        "test_p11_forgetting_keeps_to_its_limit",
        "test_p11_scheduled_and_leased_jobs_count_and_ended_ones_do_not",
        "test_p3_a_nack_after_an_ack_changes_nothing",
        "test_p3_a_repeated_ack_has_one_effect",
        "test_p3_an_ack_ends_the_job_with_success",
        "test_p4_a_cancelled_id_is_remembered_longer_than_a_short_retention",
        "test_p4_a_cancelled_job_stays_for_its_retention",
        "test_p4_settlements_are_remembered_for_their_time_and_no_longer",
        "test_p4_state_and_result_outlive_a_short_retention",
        "test_p4_with_retention_the_whole_job_stays_readable",
    ),
    Feature.LOOKUP: (
        "test_a_failure_stays_until_another_is_told",
        "test_a_leased_job_says_so",
        "test_an_unknown_job_is_not_found",
        "test_p10_an_extension_counts_from_now",
        "test_p11_with_allow_partial_what_fits_is_stored",
        "test_p1_a_time_that_is_past_means_at_once",
        "test_p2_a_job_is_lost_only_once_its_lease_ran_out",
        "test_p2_a_stale_ack_changes_nothing",
        "test_p2_an_extension_does_not_revive_a_lost_lease",
        "test_p3_a_repeated_push_stores_nothing",
        "test_p3_a_retried_job_waits_for_its_time",
        "test_p3_a_retry_without_delay_is_ready_at_once",
        "test_p3_an_id_twice_in_one_batch_is_stored_once",
        "test_p5_a_job_that_kills_its_workers_ends_dead",
        "test_p5_a_release_gives_the_attempt_back",
        "test_p7_a_dead_job_says_why",
        "test_p9_a_batch_of_nacks_answers_each",
        "test_progress_is_kept_and_a_checkpoint_stays_until_the_next",
    ),
    Feature.CANCEL: (
        "test_p2_the_lease_of_a_cancelled_job_ends",
        "test_p3_waiting_jobs_never_start_once_cancelled",
        "test_p4_ids_of_cancelled_purged_and_discarded_jobs_are_remembered",
        "test_p6_taking_jobs_out_of_the_line_leaves_the_others_in_order",
    ),
    Feature.LISTING: (
        "test_a_cursor_that_was_never_given_is_refused",
        "test_a_listing_goes_on_while_jobs_come_and_go",
        "test_p4_a_result_is_readable_without_retention",
    ),
    Feature.DEAD_LETTERS: (
        "test_p7_a_cursor_that_was_never_given_is_refused",
        "test_p7_a_discarded_job_is_gone_and_its_id_remembered",
        "test_p7_a_repeated_nack_buries_the_job_once",
        "test_p7_dead_jobs_are_listed_once_in_the_order_of_their_deaths",
        "test_p7_discarding_by_age_leaves_younger_jobs_and_other_queues",
        "test_p7_discarding_by_filter_keeps_to_its_limit",
        "test_p7_requeueing_keeps_to_its_limit_oldest_death_first",
    ),
}

#: Tests of what no name of a feature covers, by what docs/sqs.md says of it.
DOCUMENTED: dict[str, tuple[str, ...]] = {
    "There is no order": (
        "test_p6_a_delayed_job_stands_behind_those_that_are_ready",
        "test_p6_a_released_job_stands_behind_those_that_are_ready",
        "test_p6_a_retried_job_stands_behind_those_that_are_ready",
        "test_p6_delayed_jobs_become_ready_in_the_order_of_their_times",
    ),
    "SQS itself ends a delay": (
        "test_a_lease_carries_the_job",
        "test_p10_a_retried_job_is_promoted_too",
        "test_p10_promotion_comes_at_the_time_and_up_to_the_limit",
        "test_p10_the_next_time_is_the_earliest_of_all",
    ),
    "at most 15 minutes": (
        "test_a_filter_finds_what_matches_all_of_it",
        "test_a_purge_keeps_to_its_limit",
        "test_p1_a_delayed_job_is_scheduled_for_its_time",
        "test_resetting_totals_leaves_depths",
    ),
    "at most 720 KiB": ("test_p1_any_bytes_come_back_as_they_were",),
    "cannot be picked by their ids": (
        "test_p3_each_id_has_its_outcome",
        "test_p6_a_requeued_job_stands_behind_those_that_are_ready",
        "test_p7_a_job_that_dies_again_is_listed_once_at_its_new_place",
        "test_p7_ids_that_are_not_dead_are_passed_over",
    ),
    "Depths are those of a queue, not of a type": (
        "test_counts_are_kept_for_each_queue_and_type",
        "test_counts_of_pushed_jobs",
    ),
}

#: Those of moving a queue to another store: every one of them comes to Feature.TRANSFER.
TRANSFER = {
    name
    for base in DriverContract.__mro__
    if base.__module__.endswith(
        (".contract_copies", ".contract_outgoing", ".contract_receive", ".contract_sealing")
    )
    for name in vars(base)
    if name.startswith("test_")
}

#: Asks for a list, which is refused above, of a thousand jobs, of which moto makes minutes.
SLOW = {"test_p1_a_whole_batch_is_stored_in_its_order"}

LEFT_OUT = TRANSFER.union(SLOW, *REFUSED.values(), *DOCUMENTED.values())


@pytest.fixture(scope="module")
def sqs() -> Iterator[SqsServer]:
    with running_sqs() as server:
        yield server


class _Sqs(DriverContract):
    @pytest.fixture
    def new_harness(self, sqs: SqsServer) -> NewHarness:
        return lambda: SqsHarness(sqs.new_url())

    @pytest_asyncio.fixture
    async def store(self, new_harness: NewHarness) -> AsyncIterator[Store]:
        store = SqsStore(new_harness())
        assert await store.open() == 0
        yield store
        await store.close()


#: The whole suite but for what is listed above: a name that is None is no test.
TestSqs = type("TestSqs", (_Sqs,), dict.fromkeys(sorted(LEFT_OUT)))


class TestWhatSqsDoesNotKeep(_Sqs):
    """Only the tests below: those of the suite are hidden."""

    @pytest.mark.parametrize(
        ("feature", "name"),
        [(feature, name) for feature, names in REFUSED.items() for name in names],
    )
    async def test_a_missing_feature_is_refused_by_its_name(
        self, feature: Feature, name: str, store: Store
    ) -> None:
        assert feature in store.driver.capabilities.missing
        with pytest.raises(NotSupported) as refused:
            await _test(name)(self, store)
        assert refused.value.what == feature.value

    async def test_no_queue_can_be_moved(self, store: Store) -> None:
        assert Feature.TRANSFER in store.driver.capabilities.missing
        driver = store.driver
        for step in (
            driver.seal("q", "other"),
            driver.copies(1),
            driver.outgoing("q", 1),
            driver.receive([], store.now),
            driver.drop("q", []),
            driver.forward("q"),
        ):
            with pytest.raises(NotSupported, match="moving a queue to another store"):
                await step

    @pytest.mark.parametrize(
        ("words", "name"),
        [(words, name) for words, names in DOCUMENTED.items() for name in names],
    )
    async def test_what_else_does_not_hold_is_documented(
        self, words: str, name: str, store: Store
    ) -> None:
        page = Path(__file__).parents[2] / "docs" / "sqs.md"
        assert words in re.sub(r"\s+", " ", page.read_text())
        with pytest.raises((AssertionError, NotSupported)):
            await _test(name)(self, store)


for _name in dir(DriverContract):
    if _name.startswith("test_"):
        setattr(TestWhatSqsDoesNotKeep, _name, None)


def _test(name: str) -> Any:
    return getattr(DriverContract, name)
