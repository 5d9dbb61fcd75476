/* cms_log: the entries of the CMS's log and its snapshots as bytes (proto/cms_log.proto). */
#ifndef QSM_CMS_LOG_H
#define QSM_CMS_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cms_log.pb-c.h"
#include "cms_state.h"

/* Each makes one entry: malloc'ed, the caller frees. */
uint8_t *log_lead(const struct region_config *config, size_t *ret_bytes);
uint8_t *log_admit(const Qsm__LogAdmit *admit, size_t *ret_bytes);
uint8_t *log_changes(uint32_t node, Qsm__LogChange **changes, size_t count, size_t *ret_bytes);
uint8_t *log_expel(uint32_t node, const char *why, size_t *ret_bytes);
uint8_t *log_install(uint64_t term, uint64_t epoch, uint32_t attempt, size_t *ret_bytes);

/* An entry, to be freed with qsm__log_entry__free_unpacked, or NULL when malformed. */
Qsm__LogEntry *log_decode(const uint8_t *bytes, size_t count);

/* The whole state: malloc'ed, the caller frees. */
uint8_t *log_snapshot(const struct cms_state *s, size_t *ret_bytes);

/* Fills a state that is empty. -EPROTO: damaged; the state must be thrown away. */
int log_restore(struct cms_state *s, const uint8_t *bytes, size_t count);

#endif
