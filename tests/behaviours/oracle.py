"""Design section 4 in plain Python: slow, short, and the judge of the kernel."""

from __future__ import annotations


def sessions(clicks, gap, maximum):
    """``clicks``: ``(item, time, session_id or None)`` in order. Returns a list of lists of clicks."""
    found: list[list[tuple]] = []
    for click in clicks:
        if found:
            running = found[-1]
            _, time, session_id = running[-1]
            same = session_id is not None and session_id == click[2]
            if (same or click[1] - time < gap) and len(running) < maximum:
                running.append(click)
                continue
        found.append([click])
    return found


def numbers(opens):
    """The number of the session of each click, from 1, by whether each opens one; the first is of the first, whatever was before."""
    found = []
    for place, opening in enumerate(opens):
        found.append(1 if place == 0 else found[-1] + opening)
    return found


def behaviours(events, t, rules, features):
    """``events``: ``(item, time, clicked, session_id or None)`` of one user in log order; ``features``: name -> item -> value.

    Returns ``{"short": […], "sessions": […], "long": {name: […]}, "unclicked": […]}``.
    """
    before = [event for event in sorted(events, key=lambda event: event[1]) if event[1] < t]
    clicks = [(item, time, session) for item, time, clicked, session in before if clicked]
    found = sessions(clicks, rules.session_gap, rules.session_max)
    opens = [place == 0 for session in found for place in range(len(session))]
    if rules.history_max:  # whatever their session
        found = [clicks[: -rules.history_max], clicks[-rules.history_max :]] if clicks else []
    short = found[-1] if found else []
    long = {name: [] for name in features}
    if short:
        earlier = [click for session in found[:-1] for click in session]
        for name, value_of in features.items():
            for item, time, _ in reversed(earlier):
                value = value_of(item)
                if short[0][1] - time <= rules.long_window and value is not None and value not in long[name]:
                    long[name].append(value)
            long[name] = long[name][: rules.long_max]
    window = [event for event in before if event[1] >= t - rules.unclicked_window]
    clicked_items = {item for item, _, clicked, _ in window if clicked}
    count, last = {}, {}
    for place, (item, _, _, _) in enumerate(window):
        count[item] = count.get(item, 0) + 1
        last[item] = place
    kept = [item for item in count if count[item] > rules.unclicked_k and (rules.keep_clicked or item not in clicked_items)]
    kept.sort(key=lambda item: last[item])
    stream = [(item, clicked) for item, _, clicked, _ in before]
    if rules.stream_max:  # whole blocks of the user's exposures go, until fewer than two blocks are left
        while len(stream) >= 2 * rules.stream_max:
            stream = stream[rules.stream_max :]
    return {
        "short": [item for item, _, _ in short], "sessions": numbers(opens[len(opens) - len(short) :]), "long": long,
        "unclicked": kept[-rules.unclicked_max :],
        "stream": stream if rules.stream_max else [],
    }  # fmt: skip
