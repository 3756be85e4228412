// The way back through one direction of a layer: first the recurrence, last step first, which turns what was kept of
// each step into gradients of its slots; then, from those of all steps, the gradients of weights, biases and input.
#pragma once

#include "common.hpp"

namespace recurra::RECURRA_ISA {

// Rows whose part of the weights' gradients is summed at once; their sums are then added in order.
constexpr int kSum = 128;
// Rows of the input's gradient that are computed at once.
constexpr int kInputRows = 48;

template <class T> class Backward {
 public:
  Backward(const Layer& layer, const CellFunctions& functions)
      : layer_(layer),
        plan_(*layer.plan),
        functions_(functions),
        clock_(layer),
        zoneout_(layer),
        blocks_(static_cast<int>((layer.hidden + W - 1) / W)),
        input_blocks_(static_cast<int>((layer.input_size + W - 1) / W)),
        padded_(padded_units(layer.hidden)),
        row_(plan_.kept * padded_) {}

  bool run(int threads) {
    threads_ = std::max(1, std::min(threads, blocks_));
    plan_memory();
    return run_team(threads_, [&](int thread, Barrier& barrier) { work(thread, barrier); });
  }

 private:
  static constexpr int W = kWidth<T>;
  static constexpr int kTogether = 4;

  // The products that send gradients to one source, for one group of its units.
  struct Target {
    Source source;
    int index;
    std::vector<int> products;
    std::vector<std::vector<Strip<T>>> strips;  // of each product
  };
  struct Group {
    int begin, blocks, tail;
    std::vector<Target> targets;
  };
  struct Local {
    std::vector<Group> groups;
    std::vector<const T*> rows, masks;
    std::vector<T*> old_rows[kMaxStates], new_rows[kMaxStates];
    std::vector<const T*> d_rows[kMaxStates];
  };

  void plan_memory() {
    std::size_t panels = 0;
    for (const Product& product : plan_.products)
      if (product.source != kInput) panels += std::size_t(layer_.hidden) * blocks_ * W;
    panels_ = workspace_.count<T>(panels);
    std::size_t input_panels = 0;
    for (const Product& product : plan_.products)
      if (product.source == kInput && layer_.d_input.data) input_panels += std::size_t(layer_.hidden) * input_blocks_ * W;
    input_panels_ = workspace_.count<T>(input_panels);
    vectors_ = workspace_.count<T>(plan_.vectors * padded_);
    d_vectors_ = workspace_.count<T>(plan_.vectors * padded_);
    d_bias_ = workspace_.count<T>(plan_.slots * padded_);
    for (int s = 0; s < plan_.states; ++s) {
      d_states_[s] = workspace_.count<T>(layer_.batch * padded_);
      if (zoneout_.on()) d_kept_[s] = workspace_.count<T>(layer_.batch * padded_);
    }
    if (layer_.mask != nullptr) unmasked_ = workspace_.count<T>(layer_.batch * padded_);
    for (std::size_t q = 0; q < plan_.operand_phase.size(); ++q)
      d_operands_[q] = workspace_.count<T>(layer_.batch * padded_);
    const std::ptrdiff_t most = (blocks_ + threads_ - 1) / threads_ * W;
    per_thread_ = std::max<std::size_t>(std::size_t(kSum) * (plan_.slots * (most + kTileRows) + kTileVectors * W),
                                        std::size_t(kInputRows) * input_blocks_ * W) +
                  kTileRows * kTileVectors * W;
    scratch_ = workspace_.count<T>(per_thread_ * threads_);
    workspace_.take();
  }

  void work(int thread, Barrier& barrier) {
    const Share share = share_of(blocks_, thread, threads_);
    Local local;
    prepare(local, share);
    pack_input(share_of(input_blocks_, thread, threads_));
    recurrence(local, share, barrier);
    barrier.wait();
    weight_gradients(local, share, workspace_.at<T>(scratch_) + thread * per_thread_);
    if (layer_.d_input.data != nullptr) input_gradients(local, thread, workspace_.at<T>(scratch_) + thread * per_thread_);
  }

  // ---- the recurrence

  void prepare(Local& local, Share share) {
    std::ptrdiff_t terms = 0;
    for (const Product& product : plan_.products) terms += product.source == kInput ? 0 : layer_.hidden;
    T* panel = workspace_.at<T>(panels_) + terms * share.begin * W;
    for (int b = share.begin; b < share.end; b += kTogether) {
      Group group{b, std::min(kTogether, share.end - b), W, {}};
      if (b + group.blocks == blocks_) group.tail = lanes(layer_.hidden, blocks_ - 1, W);
      local.groups.push_back(std::move(group));
    }
    // Source by source, so that the panels of one phase follow one another in memory from group to group.
    for (const Source source : {kState, kOperand})
      for (Group& group : local.groups) panel = pack(group, source, panel);
    const int batch = static_cast<int>(layer_.batch);
    local.rows.resize(std::max({batch, kSum, kInputRows}));
    local.masks.resize(kSum);
    for (int s = 0; s < plan_.states; ++s) {
      local.old_rows[s].resize(batch);
      local.new_rows[s].resize(batch);
      local.d_rows[s].resize(batch);
    }
    for (int block = share.begin; block < share.end; ++block) {
      const int width = lanes(layer_.hidden, block, W);
      const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
      for (int v = 0; v < plan_.vectors; ++v) {
        store(workspace_.at<T>(vectors_) + v * padded_ + unit, load_first(static_cast<T*>(layer_.vectors[v]) + unit, width));
        store(workspace_.at<T>(d_vectors_) + v * padded_ + unit, Vec<T>{});
      }
      for (int s = 0; s < plan_.slots; ++s) store(workspace_.at<T>(d_bias_) + s * padded_ + unit, Vec<T>{});
      for (int s = 0; s < plan_.states; ++s)
        for (int r = 0; r < batch; ++r) {
          const void* given = layer_.d_final[s];
          const Vec<T> d = given ? load_first(clock_.template at<T>(const_cast<void*>(given), r) + unit, width) : Vec<T>{};
          store(workspace_.at<T>(d_states_[s]) + r * padded_ + unit, d);
        }
    }
  }

  T* pack(Group& group, Source source, T* panel) {
    for (std::size_t p = 0; p < plan_.products.size(); ++p) {
      const Product& product = plan_.products[p];
      if (product.source != source) continue;
      Target* target = nullptr;
      for (Target& other : group.targets)
        if (other.source == product.source && other.index == product.index) target = &other;
      if (target == nullptr) {
        group.targets.push_back({static_cast<Source>(product.source), product.index, {}, {}});
        target = &group.targets.back();
      }
      const int terms = static_cast<int>(layer_.hidden);
      std::vector<Column<T>> columns;
      for (int block = group.begin; block < group.begin + group.blocks; ++block) {
        const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
        const T* weights = static_cast<T*>(layer_.weights[product.matrix]) + product.gate * layer_.hidden * layer_.hidden + unit;
        columns.push_back({weights, lanes(layer_.hidden, block, W), unit});
      }
      std::vector<Strip<T>> strips;
      panel = cut(columns, terms, panel, strips);
      std::size_t column = 0;
      for (const Strip<T>& strip : strips)
        for (int v = 0; v < strip.vectors; ++v) pack_columns(strip, v, columns[column++], terms, layer_.hidden);
      target->products.push_back(static_cast<int>(p));
      target->strips.push_back(std::move(strips));
    }
    return panel;
  }

  T* slots_of(std::ptrdiff_t t) const { return static_cast<T*>(layer_.kept) + clock_.before(t) * row_; }

  // Gradients of slots of step t, through the weights, to one source; added to what is there, or all there is.
  void send(Local& local, const Group& group, const Target& target, std::ptrdiff_t t, T* to, bool add) {
    const int n = clock_.rows(t);
    if (masked(layer_, plan_.products[target.products[0]])) {
      T* unmasked = workspace_.at<T>(unmasked_);
      send_all(local, target, t, n, unmasked, false);
      for (int r = 0; r < n; ++r)
        for (int block = group.begin; block < group.begin + group.blocks; ++block) {
          const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
          const Vec<T> mask = load_first(clock_.template at<T>(layer_.mask, r) + unit, lanes(layer_.hidden, block, W));
          const Vec<T> d = load(unmasked + r * padded_ + unit) * mask;
          T* at = to + r * padded_ + unit;
          store(at, add ? load(at) + d : d);
        }
      return;
    }
    send_all(local, target, t, n, to, add);
  }

  void send_all(Local& local, const Target& target, std::ptrdiff_t t, int n, T* to, bool add) {
    for (std::size_t i = 0; i < target.products.size(); ++i) {
      const T* slots = slots_of(t) + plan_.products[target.products[i]].slot * padded_;
      for (int r = 0; r < n; ++r) local.rows[r] = slots + r * row_;
      const std::vector<Strip<T>>& strips = target.strips[i];
      multiply<T>(strips.data(), static_cast<int>(strips.size()), static_cast<int>(layer_.hidden), local.rows.data(), n, to,
                  padded_, add || i > 0 ? to : nullptr, padded_);
    }
  }

  void recurrence(Local& local, Share share, Barrier& barrier) {
    for (std::ptrdiff_t j = layer_.steps - 1; j >= 0; --j) {
      const std::ptrdiff_t t = clock_.time(j);
      const int n = clock_.rows(t);
      Tile<T> tile{};
      tile.rows = n;
      tile.slot = padded_;
      tile.slot_row = row_;
      tile.padded_row = padded_;
      for (int s = 0; s < plan_.states; ++s) {
        const bool given = layer_.d_states[s].data != nullptr;
        for (int r = 0; r < n; ++r) {
          local.old_rows[s][r] = clock_.template old_state<T>(s, j, r);
          local.new_rows[s][r] = layer_.candidates.empty()
                                     ? clock_.template at<T>(layer_.states[s], t, r)
                                     : static_cast<T*>(layer_.candidates[s]) + (clock_.before(t) + r) * padded_;
          if (given) local.d_rows[s][r] = clock_.template at<T>(layer_.d_states[s], t, r);
        }
        tile.old_state[s] = local.old_rows[s].data();
        tile.new_state[s] = local.new_rows[s].data();
        tile.output_gradients[s] = given && !zoneout_.on() ? local.d_rows[s].data() : nullptr;
        tile.state_gradients[s] = workspace_.at<T>(d_states_[s]);
      }
      for (int v = 0; v < plan_.vectors; ++v) {
        tile.vectors[v] = workspace_.at<T>(vectors_) + v * padded_;
        tile.vector_gradients[v] = workspace_.at<T>(d_vectors_) + v * padded_;
      }
      for (std::size_t q = 0; q < plan_.operand_phase.size(); ++q) {
        tile.operands[q] = static_cast<T*>(layer_.operands[q]) + clock_.before(t) * padded_;
        tile.operand_gradients[q] = workspace_.at<T>(d_operands_[q]);
      }
      for (int phase = plan_.phases - 1; phase >= 0; --phase) {
        for (const Group& group : local.groups) {
          if (phase == plan_.phases - 1) {
            if (j + 1 < layer_.steps) to_states(local, group, clock_.time(j + 1));
            if (zoneout_.on()) divide(local, group, t, n);
          }
          for (const Target& target : group.targets)
            if (target.source == kOperand && plan_.operand_phase[target.index] == phase)
              send(local, group, target, t, workspace_.at<T>(d_operands_[target.index]), false);
          tile.blocks = group.blocks;
          tile.tail = group.tail;
          tile.unit = std::ptrdiff_t(group.begin) * W;
          tile.slots = slots_of(t) + tile.unit;
          reinterpret_cast<Pointwise<T>>(const_cast<void*>(functions_.backward[phase]))(tile);
          if (phase == 0 && zoneout_.on()) rejoin(group, n);
        }
        barrier.wait();
      }
    }
    for (const Group& group : local.groups) {
      if (layer_.steps > 0) to_states(local, group, clock_.time(0));
      for (int s = 0; s < plan_.states; ++s) {
        if (layer_.d_initial[s] == nullptr) continue;
        for (int r = 0; r < layer_.batch; ++r)
          for (int block = group.begin; block < group.begin + group.blocks; ++block) {
            const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
            store_first(clock_.template at<T>(layer_.d_initial[s], r) + unit,
                        load(workspace_.at<T>(d_states_[s]) + r * padded_ + unit), lanes(layer_.hidden, block, W));
          }
      }
    }
    for (int block = share.begin; block < share.end; ++block)
      for (int v = 0; v < plan_.vectors; ++v)
        if (layer_.d_vectors[v] != nullptr) {
          const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
          store_first(static_cast<T*>(layer_.d_vectors[v]) + unit, load(workspace_.at<T>(d_vectors_) + v * padded_ + unit),
                      lanes(layer_.hidden, block, W));
        }
  }

  // With zoneout the gradient of a new state goes in part to its candidate and in part straight to the old state.
  void divide(const Local& local, const Group& group, std::ptrdiff_t t, int n) {
    const std::ptrdiff_t begin = std::ptrdiff_t(group.begin) * W;
    const std::ptrdiff_t end = std::min<std::ptrdiff_t>(layer_.hidden, begin + std::ptrdiff_t(group.blocks) * W);
    for (int s = 0; s < plan_.states; ++s)
      for (int r = 0; r < n; ++r) {
        const unsigned char* mask = zoneout_.mask(clock_, s, t, r);
        const T* given = layer_.d_states[s].data ? local.d_rows[s][r] : nullptr;
        T* d = workspace_.at<T>(d_states_[s]) + r * padded_;
        T* kept = workspace_.at<T>(d_kept_[s]) + r * padded_;
        for (std::ptrdiff_t unit = begin; unit < end; ++unit) {
          const T whole = given ? d[unit] + given[unit] : d[unit];
          const T share = zoneout_.share(mask, unit);
          kept[unit] = share == T(0) ? T(0) : share * whole;
          d[unit] = share == T(1) ? T(0) : (T(1) - share) * whole;
        }
      }
  }

  void rejoin(const Group& group, int n) {
    const std::ptrdiff_t begin = std::ptrdiff_t(group.begin) * W;
    const std::ptrdiff_t end = std::min<std::ptrdiff_t>(layer_.hidden, begin + std::ptrdiff_t(group.blocks) * W);
    for (int s = 0; s < plan_.states; ++s)
      for (int r = 0; r < n; ++r)
        for (std::ptrdiff_t unit = begin; unit < end; ++unit)
          workspace_.at<T>(d_states_[s])[r * padded_ + unit] += workspace_.at<T>(d_kept_[s])[r * padded_ + unit];
  }

  void to_states(Local& local, const Group& group, std::ptrdiff_t t) {
    for (const Target& target : group.targets)
      if (target.source == kState) send(local, group, target, t, workspace_.at<T>(d_states_[target.index]), true);
  }

  // ---- weights and biases

  // Units that a thread owns, in tiles of kTileRows rows of the weights' gradients.
  static int tiles_of(int units) { return (units + kTileRows - 1) / kTileRows; }

  void weight_gradients(Local& local, Share share, T* scratch) {
    const std::ptrdiff_t unit = std::ptrdiff_t(share.begin) * W;
    const int units = static_cast<int>(std::min<std::ptrdiff_t>(layer_.hidden, std::ptrdiff_t(share.end) * W) - unit);
    const std::ptrdiff_t total = clock_.total();
    T* packed = scratch;
    T* panel = packed + std::ptrdiff_t(kSum) * plan_.slots * (units + kTileRows);
    T* corner = scratch + per_thread_ - kTileRows * kTileVectors * W;
    std::ptrdiff_t j = 0;
    int r = 0;
    if (total == 0) clear(unit, units);
    for (std::ptrdiff_t m = 0; m < total; m += kSum) {
      const int many = static_cast<int>(std::min<std::ptrdiff_t>(kSum, total - m));
      const T* slots = static_cast<const T*>(layer_.kept) + m * row_ + unit;
      for (int s = 0; s < plan_.slots; ++s) {
        pack_tiles(slots + s * padded_, many, units, packed + std::ptrdiff_t(s) * kSum * (units + kTileRows));
        add_bias(slots + s * padded_, many, share, workspace_.at<T>(d_bias_) + s * padded_);
      }
      std::ptrdiff_t j_end = j;
      int r_end = r;
      for (std::size_t p = 0; p < plan_.products.size(); ++p) {
        const Product& product = plan_.products[p];
        bool first_of_source = true;
        for (std::size_t q = 0; q < p; ++q)
          first_of_source &= plan_.products[q].source != product.source || plan_.products[q].index != product.index;
        if (!first_of_source) continue;
        j_end = j;
        r_end = r;
        gather(local.rows.data(), local.masks.data(), product, m, many, j_end, r_end);
        source_gradients(local, product, m > 0, many, unit, units, packed, panel, corner);
      }
      j = j_end;
      r = r_end;
    }
    write_bias(share);
  }

  // Without a row that counts every gradient is zero.
  void clear(std::ptrdiff_t unit, int units) {
    for (const Product& product : plan_.products) {
      const std::ptrdiff_t width = terms_of(layer_, product);
      void* to = layer_.d_weights[product.matrix];
      if (to != nullptr)
        std::memset(static_cast<T*>(to) + (product.gate * layer_.hidden + unit) * width, 0, sizeof(T) * units * width);
    }
  }

  // packed[tile][row][unit of the tile]
  void pack_tiles(const T* slots, int many, int units, T* to) const {
    const int tiles = tiles_of(units);
    for (int tile = 0; tile < tiles; ++tile) {
      const int begin = units * tile / tiles, size = units * (tile + 1) / tiles - begin;
      T* at = to + std::ptrdiff_t(begin) * kSum;
      const T* from = slots + begin;
      if (size == kTileRows) {
        for (int i = 0; i < many; ++i) std::memcpy(at + i * kTileRows, from + i * row_, kTileRows * sizeof(T));
      } else {
        for (int i = 0; i < many; ++i)
          for (int u = 0; u < size; ++u) at[i * size + u] = from[i * row_ + u];
      }
    }
  }

  void add_bias(const T* slots, int many, Share share, T* total) const {
    if (layer_.d_bias_ih == nullptr && layer_.d_bias_hh == nullptr) return;
    for (int block = 0; block < share.end - share.begin; ++block) {
      // Several short sums round less than a long one.
      Vec<T> sums[8] = {};
      for (int i = 0; i < many; ++i) sums[i % 8] = sums[i % 8] + load(slots + i * row_ + block * W);
      for (int apart = 4; apart > 0; apart /= 2)
        for (int i = 0; i < apart; ++i) sums[i] = sums[i] + sums[i + apart];
      T* to = total + std::ptrdiff_t(share.begin + block) * W;
      store(to, load(to) + sums[0]);
    }
  }

  void write_bias(Share share) {
    for (int matrix = 0; matrix < 2; ++matrix) {
      void* to = matrix == 0 ? layer_.d_bias_ih : layer_.d_bias_hh;
      if (to == nullptr) continue;
      for (std::size_t p = 0; p < plan_.products.size(); ++p) {
        const Product& product = plan_.products[p];
        if (product.matrix != matrix) continue;
        for (int block = share.begin; block < share.end; ++block) {
          const int width = lanes(layer_.hidden, block, W);
          T* at = static_cast<T*>(to) + product.gate * layer_.hidden + std::ptrdiff_t(block) * W;
          const Vec<T> d = load(workspace_.at<T>(d_bias_) + product.slot * padded_ + std::ptrdiff_t(block) * W);
          store_first(at, repeated(p) ? load_first(at, width) + d : d, width);
        }
      }
    }
  }

  // Whether an earlier product has the same rows of the same matrix.
  bool repeated(std::size_t p) const {
    for (std::size_t q = 0; q < p; ++q)
      if (plan_.products[q].matrix == plan_.products[p].matrix && plan_.products[q].gate == plan_.products[p].gate) return true;
    return false;
  }

  // Addresses of what a product multiplied, for `many` rows from (j, r) on, in the order of time.
  void gather(const T** rows, const T** masks, const Product& product, std::ptrdiff_t m, int many, std::ptrdiff_t& t, int& r) const {
    for (int i = 0; i < many; ++i) {
      while (r >= clock_.rows(t)) {
        ++t;
        r = 0;
      }
      if (product.source == kInput)
        rows[i] = clock_.template at<T>(layer_.input, t, r);
      else if (product.source == kState)
        rows[i] = clock_.template old_state<T>(product.index, clock_.time(t), r);
      else
        rows[i] = static_cast<const T*>(layer_.operands[product.index]) + (m + i) * padded_;
      if (product.source == kState && masked(layer_, product)) masks[i] = clock_.template at<T>(layer_.mask, r);
      ++r;
    }
  }

  // Gradients of every matrix that multiplied one source, from `many` rows.
  void source_gradients(const Local& local, const Product& like, bool add, int many, std::ptrdiff_t unit, int units,
                        const T* packed, T* panel, T* corner) {
    const std::ptrdiff_t width = terms_of(layer_, like);
    const int count = static_cast<int>((width + W - 1) / W);
    const int pieces = (count + kTileVectors - 1) / kTileVectors;
    const bool mask = like.source == kState && masked(layer_, like);
    std::ptrdiff_t columns[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) columns[v] = v * W;
    for (int piece = 0; piece < pieces; ++piece) {
      const int begin = count * piece / pieces, vectors = count * (piece + 1) / pieces - begin;
      const std::ptrdiff_t column = std::ptrdiff_t(begin) * W;
      const std::ptrdiff_t existing = std::min<std::ptrdiff_t>(width - column, vectors * W);
      for (int i = 0; i < many; ++i)
        for (int v = 0; v < vectors; ++v) {
          const std::ptrdiff_t left = existing - v * W;
          const T* from = local.rows[i] + column + v * W;
          const int wide = static_cast<int>(std::min<std::ptrdiff_t>(left, W));
          Vec<T> x = left >= W ? load(from) : load_first(from, wide);
          if (mask) x = x * load_first(local.masks[i] + column + v * W, wide);
          store(panel + (i * vectors + v) * W, x);
        }
      for (std::size_t p = 0; p < plan_.products.size(); ++p) {
        const Product& product = plan_.products[p];
        if (product.source != like.source || product.index != like.index) continue;
        if (layer_.d_weights[product.matrix] == nullptr) continue;
        const bool adding = add || repeated(p);
        T* rows = static_cast<T*>(layer_.d_weights[product.matrix]) + (product.gate * layer_.hidden + unit) * width + column;
        const T* tiles = packed + std::ptrdiff_t(product.slot) * kSum * (units + kTileRows);
        const int number = tiles_of(units);
        for (int tile = 0; tile < number; ++tile) {
          const int first = units * tile / number, size = units * (tile + 1) / number - first;
          T* to = rows + first * width;
          const T* from = tiles + std::ptrdiff_t(first) * kSum;
          if (existing == vectors * W) {
            const Out<T> out{to, width, columns, adding ? to : nullptr, width, nullptr, 0};
            micro_packed_for<T>(size, vectors)(many, from, panel, out);
            continue;
          }
          const Out<T> out{corner, kTileVectors * W, columns, nullptr, 0, nullptr, 0};
          micro_packed_for<T>(size, vectors)(many, from, panel, out);
          for (int u = 0; u < size; ++u)
            for (std::ptrdiff_t c = 0; c < existing; ++c) {
              const T sum = corner[u * kTileVectors * W + c];
              to[u * width + c] = adding ? to[u * width + c] + sum : sum;
            }
        }
      }
    }
  }

  // ---- the input

  // Where the panels of one strip of the input's columns begin, and its size.
  int input_pieces() const { return (input_blocks_ + kTileVectors - 1) / kTileVectors; }
  Share input_strip(int piece) const { return share_of(input_blocks_, piece, input_pieces()); }

  Strip<T> input_panel(int piece, int nth_product) const {
    const Share strip = input_strip(piece);
    int products = 0;
    for (const Product& product : plan_.products) products += product.source == kInput;
    T* panel = workspace_.at<T>(input_panels_) +
               layer_.hidden * W * (std::ptrdiff_t(products) * strip.begin + std::ptrdiff_t(nth_product) * (strip.end - strip.begin));
    Strip<T> made{panel, strip.end - strip.begin, {}};
    for (int v = 0; v < made.vectors; ++v) made.columns[v] = std::ptrdiff_t(strip.begin + v) * W;
    return made;
  }

  void pack_input(Share share) {
    if (layer_.d_input.data == nullptr) return;
    for (int piece = 0; piece < input_pieces(); ++piece) {
      int nth = 0;
      for (const Product& product : plan_.products) {
        if (product.source != kInput) continue;
        const Strip<T> strip = input_panel(piece, nth++);
        for (int v = 0; v < strip.vectors; ++v) {
          const int block = input_strip(piece).begin + v;
          if (block < share.begin || block >= share.end) continue;
          const T* weights = static_cast<T*>(layer_.weights[0]) + product.gate * layer_.hidden * layer_.input_size + std::ptrdiff_t(block) * W;
          pack_columns(strip, v, Column<T>{weights, lanes(layer_.input_size, block, W), 0}, static_cast<int>(layer_.hidden),
                       layer_.input_size);
        }
      }
    }
  }

  void input_gradients(Local& local, int thread, T* scratch) {
    const std::ptrdiff_t total = clock_.total();
    const std::ptrdiff_t begin = total * thread / threads_, end = total * (thread + 1) / threads_;
    const std::ptrdiff_t width = std::ptrdiff_t(input_blocks_) * W;
    std::ptrdiff_t t = 0, r = begin;
    while (t < layer_.steps && r >= clock_.rows(t)) r -= clock_.rows(t++);
    for (std::ptrdiff_t m = begin; m < end; m += kInputRows) {
      const int many = static_cast<int>(std::min<std::ptrdiff_t>(kInputRows, end - m));
      for (int piece = 0; piece < input_pieces(); ++piece) {
        int nth = 0;
        for (const Product& product : plan_.products) {
          if (product.source != kInput) continue;
          const Strip<T> strip = input_panel(piece, nth);
          const T* slots = static_cast<const T*>(layer_.kept) + m * row_ + product.slot * padded_;
          for (int i = 0; i < many; ++i) local.rows[i] = slots + i * row_;
          multiply<T>(&strip, 1, static_cast<int>(layer_.hidden), local.rows.data(), many, scratch, width,
                      nth > 0 ? scratch : nullptr, width);
          ++nth;
        }
      }
      for (int i = 0; i < many; ++i) {
        while (r >= clock_.rows(t)) {
          ++t;
          r = 0;
        }
        std::memcpy(clock_.template at<T>(layer_.d_input, t, static_cast<int>(r)), scratch + i * width,
                    sizeof(T) * layer_.input_size);
        ++r;
      }
    }
  }

  const Layer& layer_;
  const CellPlan& plan_;
  const CellFunctions& functions_;
  const Clock clock_;
  const Zoneout<T> zoneout_;
  const int blocks_, input_blocks_;
  const std::ptrdiff_t padded_, row_;
  int threads_ = 1;
  Workspace workspace_;
  std::size_t panels_, input_panels_, vectors_, d_vectors_, d_bias_, d_states_[kMaxStates] = {}, d_kept_[kMaxStates] = {}, d_operands_[kMaxOperands] = {};
  std::size_t scratch_, per_thread_, unmasked_ = 0;
};

}  // namespace recurra::RECURRA_ISA
