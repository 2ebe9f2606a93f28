#include "backends/cuda/cuda_timing.h"

#include <algorithm>
#include <cmath>

#include "backends/quantile.h"
#include "cuda/driver.h"

namespace mxfp4 {
namespace {

constexpr int kMaxLaunches = 4000;  // of one graph: more cost instantiation time and no longer sharpen the mean

Event make_event() {
    Event event;
    check(driver().event_create(event.out(), CU_EVENT_DEFAULT), "make an event");
    return event;
}

double elapsed_us(const Event& start, const Event& stop) {
    float ms = 0;
    check(driver().event_elapsed_time(&ms, start.get(), stop.get()), "read the time between events");
    return double(ms) * 1000;
}

// launches of one candidate in a row, rotation after rotation.
GraphExec capture(const TimedWork& work, int launches, CUstream stream) {
    // Relaxed: other threads go on compiling and loading kernels meanwhile.
    check(driver().stream_begin_capture(stream, CU_STREAM_CAPTURE_MODE_RELAXED), "begin a stream capture");
    Graph graph;
    try {
        for (int i = 0; i < launches; ++i) work.launch(i % work.rotations, stream);
    } catch (...) {
        driver().stream_end_capture(stream, graph.out());  // so that the stream can be used again
        throw;
    }
    check(driver().stream_end_capture(stream, graph.out()), "end a stream capture");
    GraphExec exec;
    check(driver().graph_instantiate_with_flags(exec.out(), graph.get(), 0), "instantiate a graph");
    return exec;
}

struct Candidate {
    GraphExec exec;
    int launches = 0;
    std::vector<Event> starts, stops;  // a pair each repeat
};

void replay(const GraphExec& exec, const Event& start, const Event& stop, CUstream stream) {
    check(driver().event_record(start.get(), stream), "record an event");
    check(driver().graph_launch(exec.get(), stream), "replay a graph");
    check(driver().event_record(stop.get(), stream), "record an event");
}

// As many launches as last about replay_us, in whole rounds of the rotations.
int launches_for(const TimedWork& work, double replay_us, CUstream stream) {
    const GraphExec exec = capture(work, work.rotations, stream);
    const Event start = make_event(), stop = make_event();
    for (int i = 0; i < 2; ++i) replay(exec, start, stop, stream);  // the second counts
    check(driver().stream_synchronize(stream), "wait for a warm-up");
    const double round_us = std::max(elapsed_us(start, stop), 0.1);
    const int most_rounds = std::max(1, kMaxLaunches / work.rotations);
    return work.rotations * int(std::clamp(std::round(replay_us / round_us), 1.0, double(most_rounds)));
}

}  // namespace

std::vector<Timing> time_by_graph_replay(std::span<const TimedWork> work, const TimingOptions& options) {
    OwnedStream stream;
    check(driver().stream_create(stream.out(), CU_STREAM_NON_BLOCKING), "make a timing stream");
    const int repeats = std::max(options.repeats, 1);
    std::vector<Candidate> candidates;
    for (const TimedWork& one : work) {
        Candidate candidate;
        candidate.launches = launches_for(one, options.replay_us, stream.get());
        candidate.exec = capture(one, candidate.launches, stream.get());
        for (int i = 0; i < repeats; ++i) {
            candidate.starts.push_back(make_event());
            candidate.stops.push_back(make_event());
        }
        candidates.push_back(std::move(candidate));
    }
    // Everything is enqueued before anything is waited for, so that the GPU never idles (and clocks down) between
    // replays.
    for (const Candidate& c : candidates) check(driver().graph_launch(c.exec.get(), stream.get()), "warm up a graph");
    for (int i = 0; i < repeats; ++i)
        for (const Candidate& c : candidates) replay(c.exec, c.starts[i], c.stops[i], stream.get());
    check(driver().stream_synchronize(stream.get()), "wait for timed replays");

    std::vector<Timing> timings;
    for (const Candidate& c : candidates) {
        std::vector<double> us;
        for (int i = 0; i < repeats; ++i) us.push_back(elapsed_us(c.starts[i], c.stops[i]) / c.launches);
        std::sort(us.begin(), us.end());
        timings.push_back({quantile(us, 0.5), quantile(us, 0.1), quantile(us, 0.9), c.launches});
    }
    return timings;
}

}  // namespace mxfp4
