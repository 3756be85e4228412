// A thread of a team fails before, between or after barriers: the others go home, and the caller gets what was thrown.
// Its arguments are numbers of threads.
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "team.hpp"
#include "threads.hpp"

namespace {

using namespace recurra::RECURRA_ISA;

constexpr int kMeetings = 3;

// What a team throws of which some threads fail after so many meetings; as text, "" for nothing.
std::string thrown(int threads, int failing, int meetings, bool all) {
  try {
    const bool done = run_team(threads, [&](int thread, Barrier& barrier) {
      for (int met = 0; met < kMeetings; ++met) {
        if (met == meetings && (all || thread == failing)) throw std::runtime_error("failed");
        barrier.wait();
      }
      if (meetings == kMeetings && (all || thread == failing)) throw std::runtime_error("failed");
    });
    return done ? "" : "not run";
  } catch (const std::runtime_error& error) {
    return error.what();
  } catch (...) {
    return "something else";
  }
}

}  // namespace

int main(int count, char** arguments) {
  for (int argument = 1; argument < count; ++argument) {
    const int threads = std::atoi(arguments[argument]);
    for (int turn = 0; turn < 5; ++turn)
      for (int meetings = 0; meetings <= kMeetings + 1; ++meetings)
        for (int failing = 0; failing < threads; ++failing)
          for (const bool all : {false, true}) {
            const std::string expected = meetings > kMeetings ? "" : "failed";
            const std::string found = thrown(threads, failing, meetings, all);
            if (found == expected) continue;
            std::fprintf(stderr, "of %d threads number %d failed after %d meetings, and the caller got '%s'\n", threads, failing,
                         meetings, found.c_str());
            return 1;
          }
  }
}
