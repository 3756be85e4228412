// Layers on fixed pseudo-random numbers, forward, backward and step by step, without Python: for sanitizers that Python
// does not run under, and for other machines than this one.
//
// Its arguments are numbers of threads. What the first of them gives is written to the standard output, each tensor as a
// line of its case, its name, the bytes of an element and those of all, parted by tabs, and then its elements as they lie
// in memory. What the others give must be the same bits.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cell.hpp"
#include "isa.hpp"
#include "threads.hpp"
#include "vec.hpp"

namespace recurra {

int allowed_threads(int asked) { return asked; }
std::size_t most_kept_bytes() { return std::size_t(64) << 20; }
Stepping::~Stepping() = default;

namespace RECURRA_ISA {
extern const Isa kIsa;
}

namespace {

struct Described {
  const char *name, *fingerprint;
  int gates, own_matrices;
  bool projectable;
  CellPlan plan;
};

Described kDescribed[] = {
#include "plans.inc"
};

struct Case {
  const char* name;
  std::ptrdiff_t steps, batch, input, hidden, projected = 0;
  bool reverse = false, lengths = false, mask = false, zoneout_masks = false, narrow = false;
  double zoneout = 0.0;
  bool resets = false;
};

// Sizes that are no whole vectors of any width, sums longer than a block of them, and each way of regularising.
const Case kCases[] = {
    {"plain", 6, 13, 9, 37},
    {"one row", 4, 1, 8, 64},
    {"long sums over the input", 3, 7, 300, 70},
    {"long sums over the state", 2, 3, 5, 270},
    {"many rows", 5, 50, 3, 20},
    {"backwards with lengths", 6, 5, 9, 37, 0, true, true},
    {"masked", 4, 5, 9, 37, 0, false, false, true},
    {"zoneout by masks", 4, 5, 9, 37, 0, false, true, false, true, false, 0.25},
    {"zoneout by proportion", 4, 5, 9, 37, 0, true, false, false, false, false, 0.25},
    {"projected", 5, 7, 9, 70, 20},
    {"projected with lengths", 5, 7, 9, 37, 41, true, true},
    {"weights in bfloat16", 3, 14, 9, 37, 0, false, false, false, false, true},
    {"weights in bfloat16, few rows", 3, 4, 9, 37, 20, false, false, false, false, true},
    {"documents", 7, 13, 9, 37, 0, false, false, false, false, false, 0.0, true},
    {"documents backwards with lengths", 7, 5, 9, 37, 0, true, true, false, false, false, 0.0, true},
    {"documents, masked", 7, 5, 9, 37, 0, false, true, true, false, false, 0.0, true},
    {"documents, zoneout by masks", 7, 5, 9, 37, 0, true, false, false, true, false, 0.25, true},
    {"documents, projected", 7, 7, 9, 70, 20, true, true, false, false, false, 0.0, true},
    {"documents, weights in bfloat16", 7, 14, 9, 37, 0, false, true, false, false, true, 0.0, true},
};

// Numbers within -1 and 1 that every machine draws alike.
class Random {
 public:
  double next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(static_cast<std::int64_t>(state_) >> 40) / (1 << 23);
  }

 private:
  std::uint64_t state_ = 1;
};

using Results = std::map<std::string, std::string>;

template <class T> class Run {
 public:
  Run(const Described& cell, const Case& the_case, int threads, Results& results)
      : cell_(cell), case_(the_case), results_(results) {
    prefix_ = std::string(cell.name) + ", " + the_case.name + (sizeof(T) == 8 ? ", float64\t" : ", float32\t");
    plan_ = cell.plan;
    plan_.entry = RECURRA_ISA::kIsa.find(cell.fingerprint);
    layer_.plan = &plan_;
    layer_.steps = the_case.steps;
    layer_.batch = the_case.batch;
    layer_.input_size = the_case.input;
    layer_.hidden = the_case.hidden;
    layer_.projected = the_case.projected;
    layer_.reverse = the_case.reverse;
    layer_.round_weights = the_case.narrow;
    layer_.threads = threads;
    layer_.zoneout = the_case.zoneout;
    lengths();
    given();
  }

  void all() {
    forward("inference: ", false);
    forward("", true);
    // Once from a copy of what was kept, which stays as it was, and once in its place.
    layer_.saved = layer_.kept;
    layer_.kept = fresh(kept_size());
    backward("again: ");
    layer_.kept = const_cast<void*>(layer_.saved);
    layer_.saved = nullptr;
    backward("");
    for (const char* name : {"d input", "d weight 0", "d weight 1", "d bias_hh", "d initial 0"}) alike("again: ", name);
    if (case_.resets) alike("again: ", "d restart 0");
    for (const char* name : {"state 0", "final 0"}) alike("inference: ", name);
    if (!case_.reverse && !case_.lengths && !case_.mask && case_.zoneout == 0.0 && !case_.resets) stream();
  }

 private:
  // Memory of its own for each tensor, so that a sanitizer sees its end; released when the run is over.
  T* fresh(std::ptrdiff_t count, double value = std::numeric_limits<double>::quiet_NaN()) {
    memory_.emplace_back(count * sizeof(T));
    T* data = reinterpret_cast<T*>(memory_.back().data());
    for (std::ptrdiff_t i = 0; i < count; ++i) data[i] = static_cast<T>(value);
    return data;
  }
  T* drawn(std::ptrdiff_t count, double scale = 1.0) {
    T* data = fresh(count);
    for (std::ptrdiff_t i = 0; i < count; ++i) data[i] = static_cast<T>(static_cast<float>(random_.next() * scale));
    return data;
  }
  // What the engine writes only where rows count.
  T* rows(std::ptrdiff_t count) { return case_.lengths ? fresh(count, 0.0) : fresh(count); }

  Sequence sequence(T* data, std::ptrdiff_t width) const { return {data, layer_.batch * width, width}; }
  std::ptrdiff_t kept_size() const { return total_ * plan_.kept * padded_units(layer_.hidden); }
  std::ptrdiff_t every(std::ptrdiff_t width) const { return layer_.steps * layer_.batch * width; }

  void lengths() {
    total_ = layer_.steps * layer_.batch;
    if (!case_.lengths) return;
    // Row r has as many steps as its place in the order leaves it, the last of them none.
    total_ = 0;
    active_.assign(layer_.steps, 0);
    for (std::ptrdiff_t place = 0; place < layer_.batch; ++place) {
      order_.push_back((place + 2) % layer_.batch);
      const std::ptrdiff_t length = std::max<std::ptrdiff_t>(0, layer_.steps - layer_.steps * place / (layer_.batch - 1));
      for (std::ptrdiff_t t = 0; t < length; ++t) ++active_[t];
      total_ += length;
    }
    layer_.active = active_.data();
    layer_.order = order_.data();
  }

  void given() {
    const std::ptrdiff_t hidden = layer_.hidden, gates = cell_.gates * hidden;
    const double scale = 1.0 / std::sqrt(static_cast<double>(hidden));
    layer_.input = sequence(drawn(every(layer_.input_size)), layer_.input_size);
    sizes_ = {gates * layer_.input_size, gates * layer_.width(0)};
    for (int own = 0; own < cell_.own_matrices; ++own) sizes_.push_back(hidden * hidden);
    for (const std::ptrdiff_t size : sizes_) layer_.weights.push_back(drawn(size, scale));
    layer_.bias_ih = drawn(gates, scale);
    layer_.bias_hh = drawn(gates, scale);
    for (int v = 0; v < plan_.vectors; ++v) layer_.vectors.push_back(drawn(hidden, scale));
    for (int s = 0; s < plan_.states; ++s) layer_.initial.push_back(drawn(layer_.batch * layer_.width(s)));
    if (layer_.projected > 0) layer_.weight_hr = drawn(layer_.projected * hidden, scale);
    if (case_.resets) resets();
    if (case_.mask) {
      T* mask = fresh(layer_.batch * hidden);
      for (std::ptrdiff_t i = 0; i < layer_.batch * hidden; ++i) mask[i] = random_.next() > 0.0 ? T(2) : T(0);
      layer_.mask = mask;
    }
    for (int s = 0; case_.zoneout_masks && s < plan_.states; ++s) {
      memory_.emplace_back(every(hidden));
      for (char& byte : memory_.back()) byte = random_.next() > 0.5;
      layer_.zoneout_masks.push_back({memory_.back().data(), layer_.batch * hidden, hidden});
    }
  }

  // Documents of two or three steps on average.
  void resets() {
    memory_.emplace_back(every(1));
    for (char& byte : memory_.back()) byte = random_.next() > 0.2;
    layer_.resets = {memory_.back().data(), layer_.batch, 1};
    for (int s = 0; s < plan_.states; ++s) layer_.restart.push_back(drawn(layer_.width(s)));
  }

  void forward(const std::string& kind, bool keep) {
    const std::ptrdiff_t padded = padded_units(layer_.hidden);
    layer_.final.count = layer_.states.count = layer_.operands.count = layer_.candidates.count = 0;
    for (int s = 0; s < plan_.states; ++s) {
      layer_.final.push_back(fresh(layer_.batch * layer_.width(s)));
      const bool wanted = keep || s == 0;
      layer_.states.push_back(sequence(wanted ? rows(every(layer_.width(s))) : nullptr, layer_.width(s)));
    }
    for (std::size_t q = 0; q < plan_.operand_phase.size(); ++q) layer_.operands.push_back(keep ? fresh(total_ * padded) : nullptr);
    if (keep) {
      layer_.kept = fresh(kept_size());
      if (layer_.projected > 0) layer_.unprojected = fresh(total_ * padded);
      for (int s = 0; case_.zoneout > 0.0 && s < plan_.states; ++s) layer_.candidates.push_back(fresh(total_ * padded));
    }
    RECURRA_ISA::kIsa.forward(layer_, sizeof(T) == 8);
    for (int s = 0; s < plan_.states; ++s) {
      if (layer_.states[s].data != nullptr) result(kind + "state " + std::to_string(s), layer_.states[s].data, every(layer_.width(s)));
      result(kind + "final " + std::to_string(s), layer_.final[s], layer_.batch * layer_.width(s));
    }
  }

  void backward(const std::string& kind) {
    const std::ptrdiff_t hidden = layer_.hidden, gates = cell_.gates * hidden;
    const Random before = random_;
    layer_.d_states.count = layer_.d_final.count = layer_.d_initial.count = layer_.d_weights.count = layer_.d_vectors.count = 0;
    layer_.d_restart.count = 0;
    for (int s = 0; s < plan_.states; ++s) {
      layer_.d_states.push_back(sequence(drawn(every(layer_.width(s))), layer_.width(s)));
      layer_.d_final.push_back(drawn(layer_.batch * layer_.width(s)));
      layer_.d_initial.push_back(fresh(layer_.batch * layer_.width(s)));
      if (case_.resets) layer_.d_restart.push_back(fresh(layer_.width(s)));
    }
    layer_.d_input = sequence(rows(every(layer_.input_size)), layer_.input_size);
    for (const std::ptrdiff_t size : sizes_) layer_.d_weights.push_back(fresh(size));
    layer_.d_bias_ih = fresh(gates);
    layer_.d_bias_hh = fresh(gates);
    for (int v = 0; v < plan_.vectors; ++v) layer_.d_vectors.push_back(fresh(hidden));
    if (layer_.projected > 0) {
      layer_.d_weight_hr = fresh(layer_.projected * hidden);
      layer_.d_projected = fresh(total_ * padded_units(layer_.projected));
    }
    RECURRA_ISA::kIsa.backward(layer_, sizeof(T) == 8);
    random_ = before;
    result(kind + "d input", layer_.d_input.data, every(layer_.input_size));
    for (std::size_t w = 0; w < sizes_.size(); ++w) result(kind + "d weight " + std::to_string(w), layer_.d_weights[w], sizes_[w]);
    result(kind + "d bias_ih", layer_.d_bias_ih, gates);
    result(kind + "d bias_hh", layer_.d_bias_hh, gates);
    for (int v = 0; v < plan_.vectors; ++v) result(kind + "d vector " + std::to_string(v), layer_.d_vectors[v], hidden);
    for (int s = 0; s < plan_.states; ++s)
      result(kind + "d initial " + std::to_string(s), layer_.d_initial[s], layer_.batch * layer_.width(s));
    for (int s = 0; case_.resets && s < plan_.states; ++s)
      result(kind + "d restart " + std::to_string(s), layer_.d_restart[s], layer_.width(s));
    if (layer_.projected > 0) result(kind + "d weight_hr", layer_.d_weight_hr, layer_.projected * hidden);
  }

  void stream() {
    const std::unique_ptr<Stepping> stepping(RECURRA_ISA::kIsa.stream(layer_, sizeof(T) == 8));
    const std::ptrdiff_t width = layer_.batch * layer_.width(0);
    T* outputs = fresh(every(layer_.width(0)));
    for (std::ptrdiff_t t = 0; t < layer_.steps; ++t)
      stepping->step(static_cast<T*>(layer_.input.data) + t * layer_.input.step, outputs + t * width);
    result("streamed: state 0", outputs, every(layer_.width(0)));
    alike("streamed: ", "state 0");
  }

  void result(const std::string& name, const void* data, std::ptrdiff_t count) {
    for (std::ptrdiff_t i = 0; i < count; ++i)
      if (!std::isfinite(static_cast<const T*>(data)[i])) fail(name + " is not written whole, or from what was not");
    results_[named(name)].assign(static_cast<const char*>(data), count * sizeof(T));
  }

  // Whether a tensor has the same bits when it is computed another way.
  void alike(const std::string& kind, const std::string& name) const {
    if (results_.at(named(kind + name)) != results_.at(named(name))) fail(kind + name + " has other bits");
  }

  std::string named(const std::string& name) const { return prefix_ + name + "\t" + std::to_string(sizeof(T)); }

  void fail(const std::string& reason) const {
    std::fprintf(stderr, "%s%s\n", prefix_.c_str(), reason.c_str());
    std::exit(1);
  }

  const Described& cell_;
  const Case& case_;
  Results& results_;
  std::string prefix_;
  CellPlan plan_;
  Layer layer_{};
  Random random_;
  std::ptrdiff_t total_ = 0;
  std::vector<std::int64_t> active_, order_;
  std::vector<std::ptrdiff_t> sizes_;  // of the matrices
  std::vector<std::vector<char>> memory_;
};

Results run(int threads) {
  Results results;
  for (const Described& cell : kDescribed)
    for (const Case& the_case : kCases) {
      if (the_case.projected > 0 && !cell.projectable) continue;
      Run<float>(cell, the_case, threads, results).all();
      Run<double>(cell, the_case, threads, results).all();
    }
  return results;
}

}  // namespace
}  // namespace recurra

int main(int count, char** arguments) {
  recurra::Results first;
  for (int argument = 1; argument < count; ++argument) {
    const recurra::Results results = recurra::run(std::atoi(arguments[argument]));
    if (argument == 1) first = results;
    for (const auto& [name, bytes] : results)
      if (bytes != first.at(name)) {
        std::fprintf(stderr, "%s: %s threads give other bits than %s\n", name.c_str(), arguments[argument], arguments[1]);
        return 1;
      }
  }
  for (const auto& [name, bytes] : first) {
    std::printf("%s\t%zu\n", name.c_str(), bytes.size());
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
  }
}
