// The way back through one direction of a layer: first the recurrence, last step first, which turns what was kept of
// each step into gradients of its slots; then, from those of all steps, the gradients of weights, biases and input.
#pragma once

#include "gradients.hpp"

namespace recurra::RECURRA_ISA {

template <class T> class Backward {
 public:
  Backward(const Layer& layer, const CellFunctions& functions)
      : layer_(layer),
        plan_(*layer.plan),
        functions_(functions),
        clock_(layer),
        zoneout_(layer),
        width_(width_for<T>(layer, layer.batch)),
        tiled_(width_ == Width::kTiled),
        blocks_(blocks_of(layer.hidden, W)),
        projected_blocks_(blocks_of(layer.projected, W)),
        padded_(padded_units(layer.hidden)),
        projected_padded_(padded_units(layer.projected)),
        row_(plan_.kept * padded_),
        gradients_(layer, clock_, workspace_),
        projection_(layer, padded_),
        projection_gradients_(projection_.layer, clock_, workspace_) {
    for (int s = 0; s < plan_.slots; ++s) last_phase_[s] = last_phase(s);
  }

  bool run(int threads) {
    threads_ = max(1, min(threads, blocks_));
    plan_memory();
    if (layer_.saved != nullptr) prefer_large_pages(layer_.kept, clock_.total() * row_ * sizeof(T));
    return run_team(threads_, [&](int thread, Barrier& barrier) { work(thread, barrier); });
  }

 private:
  static constexpr int W = kWidth<T>;
  static constexpr int kTogether = 4;
  static constexpr Source kRecurrent[] = {kState, kOperand};

  // The projection as a layer of its own, of one product and no recurrence, for the gradients of its weights.
  struct Projection {
    CellPlan plan{};
    Layer layer{};

    Projection(const Layer& whole, std::ptrdiff_t padded) {
      plan.slots = plan.kept = plan.phases = 1;
      plan.products.push_back({0, 0, 0, kInput, 0, 0});
      layer.plan = &plan;
      layer.steps = whole.steps;
      layer.batch = whole.batch;
      layer.input_size = whole.hidden;
      layer.hidden = whole.projected;
      layer.active = whole.active;
      layer.round_weights = whole.round_weights;
      layer.tiles = whole.tiles;
      layer.input = {whole.unprojected, 0, padded, true};
      layer.kept = whole.d_projected;
      layer.weights.push_back(whole.weight_hr);
      layer.d_weights.push_back(whole.d_weight_hr);
    }
    Projection(const Projection&) = delete;
  };

  // The products that send gradients to one source, for one group of its units.
  struct Target {
    Source source;
    int index;
    List<int> products;
    List<List<Strip<T>>> strips;  // of each product
  };
  struct Group {
    int begin, blocks, tail;
    List<Target> targets;
    List<Strip<T>> projection;
  };
  struct Local {
    Share share, projected_share;
    unsigned passes = 0;  // over the groups
    List<Group> groups;
    // Of the units of a projected h, which are not those of the cell.
    List<Group> projected;
    List<const T*> rows;
    List<T*> old_rows[kMaxStates], new_rows[kMaxStates];
    List<const T*> d_rows[kMaxStates];
  };

  void plan_memory() {
    std::size_t panels = 0;
    for (const Product& product : plan_.products)
      if (product.source != kInput)
        panels += depth(width_, layer_.hidden) * (to_projected(product) ? projected_blocks_ : blocks_) * W;
    panels_ = workspace_.count<T>(panels);
    if (layer_.projected > 0) {
      projection_panels_ = workspace_.count<T>(max(layer_.projected, depth(width_, layer_.projected)) * blocks_ * W);
      if (tiled_) projected_halves_ = workspace_.count<std::uint16_t>(Halves::size(layer_.batch, layer_.projected));
      d_carried_ = workspace_.count<T>(layer_.batch * projected_padded_);
      projection_gradients_.plan_memory(threads_);
    }
    for (int s = 0; clock_.resets() && s < plan_.states; ++s)
      d_restart_[s] = workspace_.count<T>(projected(s) ? projected_padded_ : padded_);
    vectors_ = workspace_.count<T>(plan_.vectors * padded_);
    d_vectors_ = workspace_.count<T>(plan_.vectors * padded_);
    for (int s = 0; s < plan_.states; ++s) {
      d_states_[s] = workspace_.count<T>(layer_.batch * padded_);
      if (zoneout_.on()) d_kept_[s] = workspace_.count<T>(layer_.batch * padded_);
    }
    if (layer_.mask != nullptr) unmasked_ = workspace_.count<T>(layer_.batch * padded_);
    for (std::size_t q = 0; q < plan_.operand_phase.size(); ++q)
      d_operands_[q] = workspace_.count<T>(layer_.batch * padded_);
    for (int s = 0; tiled_ && s < plan_.slots; ++s)
      if (last_phase_[s] >= 0) slot_halves_[s] = workspace_.count<std::uint16_t>(2 * Halves::size(layer_.batch, layer_.hidden));
    gradients_.plan_memory(threads_);
    workspace_.take();
  }

  void work(int thread, Barrier& barrier) {
    const UsesTiles uses(tiled_);
    Local local;
    local.share = share_of(blocks_, thread, threads_);
    local.projected_share = share_of(projected_blocks_, thread, threads_);
    prepare(local);
    gradients_.prepare(thread, local.share);
    if (layer_.projected > 0) projection_gradients_.prepare(thread, local.projected_share);
    recurrence(local, barrier);
    barrier.wait();
    gradients_.weights(thread, local.share);
    if (layer_.projected > 0) projection_gradients_.weights(thread, local.projected_share);
    gradients_.input(thread);
  }

  // ---- the recurrence

  // Whether anyone wants a gradient of what the first step starts from.
  bool initial_wanted() const {
    for (const void* d : layer_.d_initial)
      if (d != nullptr) return true;
    for (const void* d : layer_.d_restart)
      if (d != nullptr && clock_.resets()) return true;
    return false;
  }

  // Whether a state is h after the projection, whose units are not those of the cell.
  bool projected(int s) const { return s == 0 && layer_.projected > 0; }

  bool to_projected(const Product& product) const {
    return layer_.projected > 0 && product.source == kState && product.index == 0;
  }

  static List<Group> groups_of(Share share, std::ptrdiff_t units) {
    List<Group> groups;
    for (int b = share.begin; b < share.end; b += kTogether) {
      Group group{b, min(kTogether, share.end - b), W, {}, {}};
      if (b + group.blocks == blocks_of(units, W)) group.tail = lanes(units, b + group.blocks - 1, W);
      groups.push_back(static_cast<Group&&>(group));
    }
    return groups;
  }

  void prepare(Local& local) {
    const Share share = local.share;
    std::ptrdiff_t before = 0;
    for (const Product& product : plan_.products)
      if (product.source != kInput) before += to_projected(product) ? local.projected_share.begin : share.begin;
    T* panel = workspace_.at<T>(panels_) + before * depth(width_, layer_.hidden) * W;
    local.groups = groups_of(share, layer_.hidden);
    local.projected = groups_of(local.projected_share, layer_.projected);
    // Source by source, so that the panels of one phase follow one another in memory from group to group.
    for (const Source source : kRecurrent)
      if (source == kOperand || layer_.steps > 1 || initial_wanted()) {
        for (Group& group : local.projected) panel = pack(group, source, true, panel);
        for (Group& group : local.groups) panel = pack(group, source, false, panel);
      }
    if (layer_.projected > 0) pack_projection(local);
    const int batch = static_cast<int>(layer_.batch);
    local.rows.resize(batch);
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
      for (int s = layer_.projected > 0 ? 1 : 0; s < plan_.states; ++s) {
        take_final(s, block, workspace_.at<T>(d_states_[s]), padded_);
        if (clock_.resets()) store(workspace_.at<T>(d_restart_[s]) + unit, Vec<T>{});
      }
    }
    for (int block = local.projected_share.begin; block < local.projected_share.end; ++block) {
      take_final(0, block, workspace_.at<T>(d_carried_), projected_padded_);
      if (clock_.resets()) store(workspace_.at<T>(d_restart_[0]) + std::ptrdiff_t(block) * W, Vec<T>{});
    }
  }

  // The gradient of a last state, for one vector of its units.
  void take_final(int s, int block, T* to, std::ptrdiff_t row) const {
    const int width = lanes(layer_.width(s), block, W);
    const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
    for (int r = 0; r < layer_.batch; ++r) {
      void* given = layer_.d_final[s];
      store(to + r * row + unit, given ? load_first(clock_.template at<T>(given, s, r) + unit, width) : Vec<T>{});
    }
  }

  void pack_projection(Local& local) {
    const int terms = static_cast<int>(layer_.projected);
    T* panel = workspace_.at<T>(projection_panels_) + depth(width_, terms) * local.share.begin * W;
    for (Group& group : local.groups) {
      List<Column<T>> columns;
      for (int block = group.begin; block < group.begin + group.blocks; ++block) {
        const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
        columns.push_back(column_of<T>(layer_, layer_.weight_hr, unit, lanes(layer_.hidden, block, W), unit));
      }
      panel = cut(columns, terms, width_, panel, group.projection);
      const Column<T>* column = columns.data();
      for (const Strip<T>& strip : group.projection)
        for (int v = 0; v < strip.vectors; ++v) pack_columns(strip, v, *column++, terms, layer_.hidden);
    }
  }

  // Weights of products on a source; on a projected h, or on all others.
  T* pack(Group& group, Source source, bool projected, T* panel) {
    for (std::size_t p = 0; p < plan_.products.size(); ++p) {
      const Product& product = plan_.products[p];
      if (product.source != source || to_projected(product) != projected) continue;
      Target* target = nullptr;
      for (Target& other : group.targets)
        if (other.source == product.source && other.index == product.index) target = &other;
      if (target == nullptr) {
        group.targets.push_back({static_cast<Source>(product.source), product.index, {}, {}});
        target = &group.targets.back();
      }
      const int terms = static_cast<int>(layer_.hidden);
      const std::ptrdiff_t width = terms_of(layer_, product);
      List<Column<T>> columns;
      for (int block = group.begin; block < group.begin + group.blocks; ++block) {
        const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
        columns.push_back(column_of<T>(layer_, layer_.weights[product.matrix], product.gate * layer_.hidden * width + unit,
                                       lanes(width, block, W), unit));
      }
      List<Strip<T>> strips;
      panel = cut(columns, terms, width_, panel, strips);
      std::size_t column = 0;
      for (const Strip<T>& strip : strips)
        for (int v = 0; v < strip.vectors; ++v) pack_columns(strip, v, columns[column++], terms, width);
      target->products.push_back(static_cast<int>(p));
      target->strips.push_back(static_cast<List<Strip<T>>&&>(strips));
    }
    return panel;
  }

  // The last phase before which a product that is not of the input is added to a slot; -1 if there is none.
  int last_phase(int slot) const {
    int last = -1;
    for (const Product& product : plan_.products)
      if (product.slot == slot && product.source != kInput) last = max(last, product.phase);
    return last;
  }

  // For matrix tiles: gradients of a slot of step j in bfloat16. Two buffers, for a slower thread may still read the other.
  Halves slot_halves(int slot, std::ptrdiff_t j) const {
    const std::size_t one = Halves::size(layer_.batch, layer_.hidden);
    return {workspace_.at<std::uint16_t>(slot_halves_[slot]) + (j % 2 != 0 ? one : 0), Halves::deep_for(layer_.hidden)};
  }
  Halves projected_halves() const {
    return {workspace_.at<std::uint16_t>(projected_halves_), Halves::deep_for(layer_.projected)};
  }

  T* slots_of(std::ptrdiff_t t) const { return static_cast<T*>(layer_.kept) + clock_.before(t) * row_; }

  // What was kept of a step, just before it is turned into gradients, which then finds it in the first cache.
  void fetch(const Group& group, std::ptrdiff_t t, int n) {
    const std::ptrdiff_t unit = std::ptrdiff_t(group.begin) * W;
    const T* saved = static_cast<const T*>(layer_.saved) + clock_.before(t) * row_ + unit;
    T* slots = slots_of(t) + unit;
    for (int r = 0; r < n; ++r)
      for (int value = 0; value < plan_.kept; ++value)
        std::memcpy(slots + r * row_ + value * padded_, saved + r * row_ + value * padded_, sizeof(T) * group.blocks * W);
  }

  // Gradients of slots of step j, through the weights, to one source; added to what is there, or all there is.
  void send(Local& local, const Group& group, const Target& target, std::ptrdiff_t j, T* to, std::ptrdiff_t row, bool add,
            const T* next = nullptr) {
    const int n = clock_.rows(clock_.time(j));
    if (masked(layer_, plan_.products[target.products[0]])) {
      T* unmasked = workspace_.at<T>(unmasked_);
      send_all(local, target, j, n, unmasked, row, false, next);
      for (int r = 0; r < n; ++r)
        for (int block = group.begin; block < group.begin + group.blocks; ++block) {
          const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
          const Vec<T> mask = load_first(clock_.template at<T>(layer_.mask, 0, r) + unit, lanes(layer_.hidden, block, W));
          const Vec<T> d = load(unmasked + r * row + unit) * mask;
          T* at = to + r * row + unit;
          store(at, add ? load(at) + d : d);
        }
      return;
    }
    send_all(local, target, j, n, to, row, add, next);
  }

  void send_all(Local& local, const Target& target, std::ptrdiff_t j, int n, T* to, std::ptrdiff_t row, bool add,
                const T* next) {
    for (std::size_t i = 0; i < target.products.size(); ++i) {
      const int slot = plan_.products[target.products[i]].slot;
      const List<Strip<T>>& strips = target.strips[i];
      if (tiled_) {
        multiply<T>(strips.data(), static_cast<int>(strips.size()), static_cast<int>(layer_.hidden), slot_halves(slot, j), n,
                    to, row, add || i > 0 ? to : nullptr, row, i + 1 == target.products.size() ? next : nullptr);
        continue;
      }
      const T* slots = slots_of(clock_.time(j)) + slot * padded_;
      for (int r = 0; r < n; ++r) local.rows[r] = slots + r * row_;
      multiply<T>(strips.data(), static_cast<int>(strips.size()), static_cast<int>(layer_.hidden), local.rows.data(), n, to,
                  row, add || i > 0 ? to : nullptr, row, i + 1 == target.products.size() ? next : nullptr);
    }
  }

  void recurrence(Local& local, Barrier& barrier) {
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
      if (layer_.projected > 0) {
        T* unprojected = static_cast<T*>(layer_.unprojected) + clock_.before(t) * padded_;
        for (int r = 0; r < n; ++r) local.new_rows[0][r] = unprojected + r * padded_;
        tile.output_gradients[0] = nullptr;
        to_projection(local, j, n);
        barrier.wait();
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
        const Turns turns(local.passes++, local.groups.size());
        for (std::size_t nth = 0; nth < local.groups.size(); ++nth) {
          const Group& group = local.groups[turns[nth]];
          const Group& next = local.groups[turns.after(nth)];
          if (phase == plan_.phases - 1) {
            if (j + 1 < layer_.steps) {
              to_states(local, group, j + 1, &next);
              divert(group, j + 1, false);
            }
            if (layer_.projected > 0) from_projection(local, group, t, n);
            if (zoneout_.on()) divide(local, group, t, n);
            if (layer_.saved != nullptr) fetch(group, t, n);
          }
          for (const Target& target : group.targets)
            if (target.source == kOperand && plan_.operand_phase[target.index] == phase)
              send(local, group, target, j, workspace_.at<T>(d_operands_[target.index]), padded_, false);
          tile.blocks = group.blocks;
          tile.tail = group.tail;
          tile.unit = std::ptrdiff_t(group.begin) * W;
          tile.slots = slots_of(t) + tile.unit;
          reinterpret_cast<Pointwise<T>>(const_cast<void*>(functions_.backward[phase]))(tile);
          for (int s = 0; tiled_ && s < plan_.slots; ++s)
            if (last_phase_[s] >= phase)
              narrow_units<T>(slot_halves(s, j), [&](int r) { return slots_of(t) + s * padded_ + r * row_; }, group.begin,
                              group.begin + group.blocks, layer_.hidden, n, no_mask<T>);
          if (phase == 0 && zoneout_.on()) rejoin(group, n);
        }
        barrier.wait();
      }
    }
    for (const Group& group : local.groups) {
      if (layer_.steps > 0 && initial_wanted()) to_states(local, group, 0);
      divert(group, 0, false);
      for (int s = layer_.projected > 0 ? 1 : 0; s < plan_.states; ++s) {
        give_initial(group, s, workspace_.at<T>(d_states_[s]), padded_);
        give_restart(group, s);
      }
    }
    for (const Group& group : local.projected) {
      if (layer_.steps > 0 && initial_wanted()) to_states(local, group, 0);
      divert(group, 0, true);
      give_initial(group, 0, workspace_.at<T>(d_carried_), projected_padded_);
      give_restart(group, 0);
    }
    for (int block = local.share.begin; block < local.share.end; ++block)
      for (int v = 0; v < plan_.vectors; ++v)
        if (layer_.d_vectors[v] != nullptr) {
          const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
          store_first(static_cast<T*>(layer_.d_vectors[v]) + unit, load(workspace_.at<T>(d_vectors_) + v * padded_ + unit),
                      lanes(layer_.hidden, block, W));
        }
  }

  void give_initial(const Group& group, int s, const T* from, std::ptrdiff_t row) const {
    if (layer_.d_initial[s] == nullptr) return;
    for (int r = 0; r < layer_.batch; ++r)
      for (int block = group.begin; block < group.begin + group.blocks; ++block) {
        const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
        store_first(clock_.template at<T>(layer_.d_initial[s], s, r) + unit, load(from + r * row + unit),
                    lanes(layer_.width(s), block, W));
      }
  }

  void give_restart(const Group& group, int s) const {
    if (!clock_.resets() || layer_.d_restart.empty() || layer_.d_restart[s] == nullptr) return;
    for (int block = group.begin; block < group.begin + group.blocks; ++block) {
      const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
      store_first(static_cast<T*>(layer_.d_restart[s]) + unit, load(workspace_.at<T>(d_restart_[s]) + unit),
                  lanes(layer_.width(s), block, W));
    }
  }

  // Gradients of what step j started from, of rows that it did not take from the step before: of the state to restart
  // from. One thread adds up all rows of a unit, so that the order is always the same.
  void divert(const Group& group, std::ptrdiff_t j, bool of_projected) const {
    if (!clock_.resets() || layer_.steps == 0) return;
    const int n = clock_.rows(clock_.time(j));
    for (int s = of_projected || layer_.projected == 0 ? 0 : 1; s < (of_projected ? 1 : plan_.states); ++s) {
      T* const from = workspace_.at<T>(of_projected ? d_carried_ : d_states_[s]);
      const std::ptrdiff_t row = of_projected ? projected_padded_ : padded_;
      for (int r = 0; r < n; ++r) {
        if (!clock_.reset(j, r)) continue;
        for (int block = group.begin; block < group.begin + group.blocks; ++block) {
          const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
          T* const total = workspace_.at<T>(d_restart_[s]) + unit;
          store(total, load(total) + load(from + r * row + unit));
          store(from + r * row + unit, Vec<T>{});
        }
      }
    }
  }

  // The whole gradient of the projected h of the j-th step, of this thread's units.
  void to_projection(Local& local, std::ptrdiff_t j, int n) {
    const std::ptrdiff_t t = clock_.time(j);
    T* carried = workspace_.at<T>(d_carried_);
    T* to = static_cast<T*>(layer_.d_projected) + clock_.before(t) * projected_padded_;
    for (const Group& group : local.projected) {
      if (j + 1 < layer_.steps) {
        to_states(local, group, j + 1);
        divert(group, j + 1, true);
      }
      for (int r = 0; r < n; ++r)
        for (int block = group.begin; block < group.begin + group.blocks; ++block) {
          const std::ptrdiff_t unit = std::ptrdiff_t(block) * W;
          Vec<T> d = load(carried + r * projected_padded_ + unit);
          if (layer_.d_states[0].data != nullptr)
            d = d + load_first(local.d_rows[0][r] + unit, lanes(layer_.projected, block, W));
          store(to + r * projected_padded_ + unit, d);
          store(carried + r * projected_padded_ + unit, Vec<T>{});
        }
      if (tiled_)
        narrow_units<T>(projected_halves(), [&](int r) { return to + r * projected_padded_; }, group.begin,
                        group.begin + group.blocks, layer_.projected, n, no_mask<T>);
    }
  }

  // From there to h before the projection.
  void from_projection(Local& local, const Group& group, std::ptrdiff_t t, int n) {
    const T* from = static_cast<const T*>(layer_.d_projected) + clock_.before(t) * projected_padded_;
    const int count = static_cast<int>(group.projection.size()), terms = static_cast<int>(layer_.projected);
    T* to = workspace_.at<T>(d_states_[0]);
    if (tiled_) {
      multiply<T>(group.projection.data(), count, terms, projected_halves(), n, to, padded_, nullptr, 0);
      return;
    }
    for (int r = 0; r < n; ++r) local.rows[r] = from + r * projected_padded_;
    multiply<T>(group.projection.data(), count, terms, local.rows.data(), n, to, padded_, nullptr, 0);
  }

  // With zoneout the gradient of a new state goes in part to its candidate and in part straight to the old state.
  void divide(const Local& local, const Group& group, std::ptrdiff_t t, int n) {
    const std::ptrdiff_t begin = std::ptrdiff_t(group.begin) * W;
    const std::ptrdiff_t end = min<std::ptrdiff_t>(layer_.hidden, begin + std::ptrdiff_t(group.blocks) * W);
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
    const std::ptrdiff_t end = min<std::ptrdiff_t>(layer_.hidden, begin + std::ptrdiff_t(group.blocks) * W);
    for (int s = 0; s < plan_.states; ++s)
      for (int r = 0; r < n; ++r)
        for (std::ptrdiff_t unit = begin; unit < end; ++unit)
          workspace_.at<T>(d_states_[s])[r * padded_ + unit] += workspace_.at<T>(d_kept_[s])[r * padded_ + unit];
  }

  // `next`: the group whose turn it is after this one.
  void to_states(Local& local, const Group& group, std::ptrdiff_t j, const Group* next = nullptr) {
    const T* panel = nullptr;
    if (next != nullptr && !next->targets.empty()) panel = next->targets[0].strips[0][0].panel;
    for (const Target& target : group.targets)
      if (to_projected(plan_.products[target.products[0]]))
        send(local, group, target, j, workspace_.at<T>(d_carried_), projected_padded_, true);
      else if (target.source == kState)
        send(local, group, target, j, workspace_.at<T>(d_states_[target.index]), padded_, true, panel);
  }

  const Layer& layer_;
  const CellPlan& plan_;
  const CellFunctions& functions_;
  const Clock clock_;
  const Zoneout<T> zoneout_;
  const Width width_;
  const bool tiled_;
  const int blocks_, projected_blocks_;
  const std::ptrdiff_t padded_, projected_padded_, row_;
  int threads_ = 1;
  Workspace workspace_;
  Gradients<T> gradients_;
  Projection projection_;
  Gradients<T> projection_gradients_;
  std::size_t panels_ = 0, vectors_ = 0, d_vectors_ = 0, unmasked_ = 0, projection_panels_ = 0, d_carried_ = 0;
  int last_phase_[kMaxSlots] = {};
  std::size_t slot_halves_[kMaxSlots] = {}, projected_halves_ = 0;
  std::size_t d_restart_[kMaxStates] = {};  // one row each
  std::size_t d_states_[kMaxStates] = {}, d_kept_[kMaxStates] = {}, d_operands_[kMaxOperands] = {};
};

}  // namespace recurra::RECURRA_ISA
