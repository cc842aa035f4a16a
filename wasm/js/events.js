// Events of a Recommender.

export class DeviceLostEvent extends Event {
  /** @param {string} reason @param {boolean} willRecover */
  constructor(reason, willRecover) {
    super('devicelost');
    this.reason = reason;
    this.willRecover = willRecover;
  }
}

export class MemoryPressureEvent extends Event {
  /** @param {number} usedBytes @param {number | undefined} budgetBytes */
  constructor(usedBytes, budgetBytes) {
    super('memorypressure');
    this.usedBytes = usedBytes;
    this.budgetBytes = budgetBytes;
  }
}
