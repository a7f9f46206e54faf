
/* ==== FOR CONVENIENCE ============================================================================
 *
 * Keys from texts that end with a NUL.
 */

/* An object, without a version. */
static inline keylatch_key keylatch_key_of(const char *bucket, const char *object)
{
    keylatch_key key;
    key.version = NULL;
    key.version_len = 0;
    key.bucket = bucket;
    key.bucket_len = strlen(bucket);
    key.object = object;
    key.object_len = strlen(object);
    return key;
}

/* One version of an object. */
static inline keylatch_key keylatch_key_of_version(const char *bucket, const char *object, const char *version)
{
    keylatch_key key = keylatch_key_of(bucket, object);
    key.version = version;
    key.version_len = strlen(version);
    return key;
}

#ifdef __cplusplus
}
#endif

#endif /* KEYLATCH_H */
