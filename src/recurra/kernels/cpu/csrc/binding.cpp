// The engine as a Python module. Tensors arrive as addresses: the module is built without torch and fits every version.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

#include "cell.hpp"
#include "isa.hpp"
#include "openmp.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(RECURRA_X86) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace nb = nanobind;

namespace recurra {

OpenMP openmp{};

static bool forked = false;

int allowed_threads(int asked) { return forked ? 1 : asked; }

std::size_t most_kept_bytes() {
  static const std::size_t bytes = [] {
    const char* said = std::getenv("RECURRA_KEEP_MIB");
    const std::string text = said ? said : "";
    if (text.empty()) return std::size_t(64) << 20;
    if (text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos)
      throw std::invalid_argument("RECURRA_KEEP_MIB=" + text + ": it must be a whole number of MiB, 0 to keep none");
    return static_cast<std::size_t>(std::stoul(text)) << 20;
  }();
  return bytes;
}

Stepping::~Stepping() = default;

#define RECURRA_DECLARE(isa) \
  namespace isa { extern const Isa kIsa; }
#if defined(RECURRA_X86)
RECURRA_DECLARE(avx512)
RECURRA_DECLARE(avx2)
#endif
RECURRA_DECLARE(portable)

namespace {

std::vector<const Isa*> supported() {
  std::vector<const Isa*> found;
#if defined(RECURRA_X86)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    found.push_back(&avx512::kIsa);
  if (avx2) found.push_back(&avx2::kIsa);
#endif
  found.push_back(&portable::kIsa);
  return found;
}

// AVX-512 with matrix tiles for products in bfloat16, which the system has to let a process use.
constexpr const char* kTiles = "amx";

bool has_tiles() {
#if defined(RECURRA_X86) && defined(__linux__)
  static const bool found = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (std::strcmp(supported().front()->name, "avx512") != 0) return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    const bool tiles = (d >> 22 & 1) && (d >> 24 & 1);
    if (!tiles || !__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) return false;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return found;
#else
  return false;
#endif
}

const Isa& isa_named(const std::string& name) {
  for (const Isa* isa : supported())
    if (name == isa->name || (name == kTiles && has_tiles())) return *isa;
  throw std::invalid_argument("this machine does not run " + name);
}

using Address = std::intptr_t;
using Addresses = std::vector<Address>;

template <class T = void> T* pointer(Address address) { return reinterpret_cast<T*>(address); }

template <class T, int kMost> void check_count(const Few<T, kMost>&, std::size_t count) {
  if (count > kMost) throw std::invalid_argument("a cell of this size is not provided for");
}

template <int kMost> void pointers(Few<void*, kMost>& found, const Addresses& addresses) {
  check_count(found, addresses.size());
  for (const Address address : addresses) found.push_back(pointer(address));
}

Sequence sequence(const Addresses& three, bool packed, std::size_t at = 0) {
  return {pointer(three.at(at)), three.at(at + 1), three.at(at + 2), packed};
}

Few<Sequence, kMaxStates> sequences(const Addresses& threes, bool packed) {
  Few<Sequence, kMaxStates> found;
  check_count(found, threes.size() / 3);
  for (std::size_t at = 0; at < threes.size(); at += 3) found.push_back(sequence(threes, packed, at));
  return found;
}

void check_size(std::ptrdiff_t size, const char* of) {
  if (size < 0 || size > kMostCounted)
    throw std::invalid_argument("the CPU engine counts at most " + std::to_string(kMostCounted) + " " + of + ", not " +
                                std::to_string(size) + ": take fewer, or the reference backend");
}

// A cell on one instruction set.
class Cell {
 public:
  // `entry` is the address of a CellEntry compiled elsewhere; 0 takes the one built in.
  Cell(const std::string& isa, const std::string& fingerprint, int states, int slots, int kept, int phases, int vectors,
       const std::vector<int>& operand_phase, const std::vector<std::vector<int>>& products, Address entry)
      : isa_(isa_named(isa)), tiles_(isa == kTiles) {
    if (states > kMaxStates || slots > kept || kept > kMaxSlots || vectors > kMaxVectors || phases > kMaxPhases)
      throw std::invalid_argument("a cell of this size is not provided for");
    check_count(plan_.operand_phase, operand_phase.size());
    check_count(plan_.products, products.size());
    plan_.entry = entry != 0 ? pointer<const CellEntry>(entry) : isa_.find(fingerprint.c_str());
    // An error of its own: only what is absent, not what does not fit, is worth compiling.
    if (plan_.entry == nullptr) throw nb::key_error("no compiled arithmetic of this cell");
    plan_.states = states;
    plan_.slots = slots;
    plan_.kept = kept;
    plan_.phases = phases;
    plan_.vectors = vectors;
    for (const int phase : operand_phase) plan_.operand_phase.push_back(phase);
    for (const std::vector<int>& p : products) plan_.products.push_back({p.at(0), p.at(1), p.at(2), p.at(3), p.at(4), p.at(5)});
    for (const Product& product : plan_.products) {
      gates_ = std::max<std::ptrdiff_t>(gates_, product.gate + 1);
      if (product.matrix >= kMaxMatrices) throw std::invalid_argument("a cell of this size is not provided for");
    }
  }

  void forward(bool is_double, const std::vector<std::ptrdiff_t>& sizes, bool reverse, int threads, Address active, Address order, bool packed, bool round_weights, bool bfloat16_weights,
               const Addresses& input, const Addresses& weights, const Addresses& biases,
               const Addresses& vectors, const Addresses& initial, const Addresses& final, const Addresses& states,
               Address kept, const Addresses& operands, Address mask, double zoneout, const Addresses& zoneout_masks,
               const Addresses& candidates, const Addresses& projection, const Addresses& resets, const Addresses& restart) const {
    Layer layer = layer_of(sizes, reverse, threads, active, order, packed, round_weights, bfloat16_weights, input, weights, biases, vectors, initial, states,
                           kept, operands, mask, zoneout, zoneout_masks, candidates, projection);
    pointers(layer.final, final);
    set_resets(layer, resets, restart, packed);
    nb::gil_scoped_release released;
    isa_.forward(layer, is_double);
  }

  void backward(bool is_double, const std::vector<std::ptrdiff_t>& sizes, bool reverse, int threads, Address active, Address order, bool packed, bool round_weights, bool bfloat16_weights,
                const Addresses& input, const Addresses& weights, const Addresses& biases,
                const Addresses& vectors, const Addresses& initial, const Addresses& states, Address kept,
                const Addresses& operands, Address mask, double zoneout, const Addresses& zoneout_masks,
                const Addresses& candidates, const Addresses& projection, const Addresses& d_states, const Addresses& d_final, const Addresses& d_input,
                const Addresses& d_weights, const Addresses& d_biases, const Addresses& d_vectors,
                const Addresses& d_initial, const Addresses& d_projection, Address saved, const Addresses& resets,
                const Addresses& restart, const Addresses& d_restart) const {
    Layer layer = layer_of(sizes, reverse, threads, active, order, packed, round_weights, bfloat16_weights, input, weights, biases, vectors, initial, states,
                           kept, operands, mask, zoneout, zoneout_masks, candidates, projection);
    set_resets(layer, resets, restart, packed);
    if (!d_restart.empty() && d_restart.size() != layer.initial.size())
      throw std::invalid_argument("d_restart takes an address for each state, 0 for a gradient that is not wanted");
    pointers(layer.d_restart, d_restart);
    layer.d_states = sequences(d_states, packed);
    pointers(layer.d_final, d_final);
    layer.d_input = sequence(d_input, packed);
    pointers(layer.d_weights, d_weights);
    layer.d_bias_ih = pointer(d_biases.at(0));
    layer.d_bias_hh = pointer(d_biases.at(1));
    pointers(layer.d_vectors, d_vectors);
    pointers(layer.d_initial, d_initial);
    layer.d_weight_hr = pointer(d_projection.at(0));
    layer.d_projected = pointer(d_projection.at(1));
    layer.saved = pointer(saved);
    nb::gil_scoped_release released;
    isa_.backward(layer, is_double);
  }

 private:
  static void set_resets(Layer& layer, const Addresses& resets, const Addresses& restart, bool packed) {
    layer.resets = sequence(resets, packed);
    if (layer.resets.data == nullptr) return;
    pointers(layer.restart, restart);
    bool whole = layer.restart.size() == layer.initial.size();
    for (const void* row : layer.restart) whole = whole && row != nullptr;
    if (!whole) throw std::invalid_argument("resets need the address of a row to restart from for each state");
  }

  Layer layer_of(const std::vector<std::ptrdiff_t>& sizes, bool reverse, int threads, Address active, Address order, bool packed, bool round_weights, bool bfloat16_weights,
                 const Addresses& input, const Addresses& weights, const Addresses& biases, const Addresses& vectors,
                 const Addresses& initial, const Addresses& states, Address kept, const Addresses& operands, Address mask, double zoneout,
                 const Addresses& zoneout_masks, const Addresses& candidates, const Addresses& projection) const {
    Layer layer{};
    layer.plan = &plan_;
    layer.steps = sizes.at(0);
    layer.batch = sizes.at(1);
    layer.input_size = sizes.at(2);
    layer.hidden = sizes.at(3);
    layer.projected = sizes.at(4);
    check_size(layer.batch, "rows in a batch");
    check_size(layer.input_size, "features of an input");
    check_size(layer.hidden, "hidden units");
    check_size(layer.projected, "projected units");
    check_size(gates_ * layer.hidden, "units of all gates");
    layer.reverse = reverse;
    layer.round_weights = round_weights;
    layer.tiles = tiles_;
    layer.bfloat16_weights = bfloat16_weights;
    layer.threads = threads;
    layer.active = pointer<const std::int64_t>(active);
    layer.order = pointer<const std::int64_t>(order);
    layer.input = sequence(input, packed);
    pointers(layer.weights, weights);
    layer.bias_ih = pointer(biases.at(0));
    layer.bias_hh = pointer(biases.at(1));
    pointers(layer.vectors, vectors);
    pointers(layer.initial, initial);
    layer.states = sequences(states, packed);
    layer.kept = pointer(kept);
    pointers(layer.operands, operands);
    layer.mask = pointer(mask);
    layer.zoneout = zoneout;
    layer.zoneout_masks = sequences(zoneout_masks, packed);
    pointers(layer.candidates, candidates);
    layer.weight_hr = pointer(projection.at(0));
    layer.unprojected = pointer(projection.at(1));
    return layer;
  }

  const Isa& isa_;
  const bool tiles_;
  CellPlan plan_;
  std::ptrdiff_t gates_ = 1;
  friend class Stream;
};

// One layer that takes a step at a time.
class Stream {
 public:
  Stream(const Cell& cell, bool is_double, const std::vector<std::ptrdiff_t>& sizes, int threads, const Addresses& weights,
         const Addresses& biases, const Addresses& vectors, const Addresses& initial, double zoneout, Address projection, bool round_weights, bool bfloat16_weights) {
    const std::vector<std::ptrdiff_t> all{1, sizes.at(0), sizes.at(1), sizes.at(2), sizes.at(3)};
    const Addresses states(3 * cell.plan_.states), none{0, 0, 0}, operands(cell.plan_.operand_phase.size());
    const Layer layer = cell.layer_of(all, false, threads, 0, 0, false, round_weights, bfloat16_weights, none, weights, biases, vectors, initial, states, 0,
                                      operands, 0, zoneout, {}, {}, {projection, 0});
    for (int s = 0; s < cell.plan_.states; ++s) bytes_.push_back(layer.batch * layer.width(s) * (is_double ? 8 : 4));
    stepping_.reset(cell.isa_.stream(layer, is_double));
  }

  void step(Address input, Address output) { stepping_->step(pointer(input), pointer(output)); }
  void read(int s, Address to) { std::memcpy(pointer(to), stepping_->state(s), bytes_.at(s)); }
  void write(int s, Address from) { std::memcpy(stepping_->state(s), pointer(from), bytes_.at(s)); }

 private:
  std::vector<std::size_t> bytes_;  // of each state
  std::unique_ptr<Stepping> stepping_;
};

}  // namespace
}  // namespace recurra

NB_MODULE(_engine, module) {
  using namespace nb::literals;
  // A graph that is alive when the interpreter ends holds its cell, which is no fault worth a message.
  nb::set_leak_warnings(false);
#if defined(__unix__) || defined(__APPLE__)
  pthread_atfork(nullptr, nullptr, [] { recurra::forked = true; });
#endif
  module.def("instruction_sets", [] {
    std::vector<std::string> names;
    if (recurra::has_tiles()) names.push_back(recurra::kTiles);
    for (const recurra::Isa* isa : recurra::supported()) names.push_back(isa->name);
    return names;
  });
  // Takes the addresses of GOMP_parallel, omp_get_num_threads and omp_get_thread_num. While a layer runs nobody may call it.
  module.def("use_openmp", [](recurra::Address parallel, recurra::Address team_size, recurra::Address thread) {
    using recurra::OpenMP;
    recurra::openmp = {reinterpret_cast<decltype(OpenMP::parallel)>(parallel), reinterpret_cast<decltype(OpenMP::team_size)>(team_size),
                       reinterpret_cast<decltype(OpenMP::thread)>(thread)};
  }, "parallel"_a, "team_size"_a, "thread"_a);
  module.def("peak", [](const std::string& isa) { return recurra::isa_named(isa).peak(); }, "isa"_a);
  module.def("reading", [](const std::string& isa, std::size_t bytes, int threads) { return recurra::isa_named(isa).reading(bytes, recurra::allowed_threads(threads)); }, "isa"_a, "bytes"_a, "threads"_a);
  module.def("padded_units", &recurra::padded_units, "hidden"_a);
  nb::class_<recurra::Cell>(module, "Cell")
      .def(nb::init<const std::string&, const std::string&, int, int, int, int, int, const std::vector<int>&,
                    const std::vector<std::vector<int>>&, recurra::Address>(),
           "isa"_a, "fingerprint"_a, "states"_a, "slots"_a, "kept"_a, "phases"_a, "vectors"_a, "operand_phase"_a,
           "products"_a, "entry"_a = 0)
      // What a layer does not have may be left out.
      .def("forward", &recurra::Cell::forward, "is_double"_a, "sizes"_a, "reverse"_a, "threads"_a, "active"_a = 0,
           "order"_a = 0, "packed"_a = false, "round_weights"_a = false, "bfloat16_weights"_a = false, "input"_a,
           "weights"_a, "biases"_a = recurra::Addresses{0, 0}, "vectors"_a, "initial"_a, "final"_a, "states"_a,
           "kept"_a = 0, "operands"_a = recurra::Addresses(), "mask"_a = 0, "zoneout"_a = 0.0,
           "zoneout_masks"_a = recurra::Addresses(), "candidates"_a = recurra::Addresses(),
           "projection"_a = recurra::Addresses{0, 0}, "resets"_a = recurra::Addresses{0, 0, 0},
           "restart"_a = recurra::Addresses())
      .def("backward", &recurra::Cell::backward, "is_double"_a, "sizes"_a, "reverse"_a, "threads"_a, "active"_a = 0,
           "order"_a = 0, "packed"_a = false, "round_weights"_a = false, "bfloat16_weights"_a = false, "input"_a,
           "weights"_a, "biases"_a = recurra::Addresses{0, 0}, "vectors"_a, "initial"_a, "states"_a, "kept"_a,
           "operands"_a = recurra::Addresses(), "mask"_a = 0, "zoneout"_a = 0.0,
           "zoneout_masks"_a = recurra::Addresses(), "candidates"_a = recurra::Addresses(),
           "projection"_a = recurra::Addresses{0, 0}, "d_states"_a, "d_final"_a, "d_input"_a, "d_weights"_a,
           "d_biases"_a, "d_vectors"_a, "d_initial"_a, "d_projection"_a, "saved"_a = 0,
           "resets"_a = recurra::Addresses{0, 0, 0}, "restart"_a = recurra::Addresses(),
           "d_restart"_a = recurra::Addresses());
  nb::class_<recurra::Stream>(module, "Stream")
      .def(nb::init<const recurra::Cell&, bool, const std::vector<std::ptrdiff_t>&, int, const recurra::Addresses&,
                    const recurra::Addresses&, const recurra::Addresses&, const recurra::Addresses&, double, recurra::Address, bool, bool>(),
           "cell"_a, "is_double"_a, "sizes"_a, "threads"_a, "weights"_a, "biases"_a, "vectors"_a, "initial"_a, "zoneout"_a, "projection"_a = 0,
           "round_weights"_a = false, "bfloat16_weights"_a = false, nb::keep_alive<1, 2>())
      .def("step", &recurra::Stream::step, "input"_a, "output"_a)
      .def("read", &recurra::Stream::read, "state"_a, "to"_a)
      .def("write", &recurra::Stream::write, "state"_a, "source"_a);
}
